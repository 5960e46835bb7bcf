"""Tensors to restored tensors.

`restore`    the way of every picture: precision, device, tile size by the free memory; halves tiles that do not fit
`tiles`      a network's stages over a frame, whole or in tiles (most networks)
`windowed`   a network that restores fixed windows (MAXIM), several at once; `fused` is its fast arithmetic on CPUs
`quality`    before it: which of a network's steps this machine can afford; after it: strength, a blend with the photo
`crispness`  before it: a blend of two networks' weights
"""
