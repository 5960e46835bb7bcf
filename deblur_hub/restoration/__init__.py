"""Tensor in, tensor out: whole frames, tiles or windows; precision, memory, quality, strength and crispness."""
