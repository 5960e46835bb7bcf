"""The former place of `deblur_hub.pictures`; deprecated since 0.2."""

from .deprecation import moved

NAMES = ("Metadata", "Original", "read", "to_array", "to_image", "write")
__getattr__ = moved(__name__, {name: f"deblur_hub.pictures:{name}" for name in NAMES})
