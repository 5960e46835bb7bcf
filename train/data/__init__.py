"""Training data: from the pictures on disk to batches."""
