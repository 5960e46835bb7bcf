"""Training of deblur-hub's generators; `accelerate launch train/` runs `__main__`, which is the manual."""
