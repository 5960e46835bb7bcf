"""deblur-hub: a blurry photo in, a sharper one out.

from deblur_hub import DeblurGenerator

generator = DeblurGenerator.from_pretrained()
generator.deblur("photo.jpg").save("sharp.png")
"""

__version__ = "0.2.0"

from .config import GeneratorConfig
from .errors import DatasetError, DeblurHubError, ModelError, PictureError, RestorationError
from .generator import DeblurGenerator
from .hub import DEFAULT_MODEL, BundledModel, list_models

__all__ = [
    "DEFAULT_MODEL",
    "BundledModel",
    "DatasetError",
    "DeblurGenerator",
    "DeblurHubError",
    "GeneratorConfig",
    "ModelError",
    "PictureError",
    "RestorationError",
    "__version__",
    "list_models",
]
