"""The classifiers under DeblurGAN-v2's pyramid, each cut off behind the last layer that the pyramid looks at."""

from .base import Backbone, Statistics
from .inception import InceptionResnetV2
from .mobilenet import MobileNetV2

__all__ = ["Backbone", "InceptionResnetV2", "MobileNetV2", "Statistics"]
