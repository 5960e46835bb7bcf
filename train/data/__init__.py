"""Training data, from the pictures on disk to batches.

samples.py          what a data folder holds (`find_training_data`), and the dataset (`TrainingSet`)
sources.py          one class for each kind of picture; add another kind here and to `TrainingSet`
synthesis.py        synthetic blur: what is drawn for a photograph, and how it is applied
device_pictures.py  pictures kept in a GPU's memory, with crops cut there
cache.py            decoded pictures as memory-mapped files
loading.py          loader workers; pool.py: samples that are kept and used several times
"""
