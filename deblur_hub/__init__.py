"""deblur-hub: a blurry photo in, a sharper one out."""

__version__ = "0.1.0"
