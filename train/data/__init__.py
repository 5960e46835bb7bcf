"""Training data, from the pictures on disk to batches; another kind of picture is a class in sources.py."""
