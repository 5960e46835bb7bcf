"""Models in formats that other programs run.

`program`   a network traced by torch.export, for pictures of any size
`notes`     what a file says of itself
`files`     ONNX and torch.export files, checked against PyTorch before they appear
`running`   ONNX files run by ONNX Runtime, windows and all
`web`       a folder of static files that restores photos in a browser
"""
