"""What is measured of training: ablations, speed, curves."""
