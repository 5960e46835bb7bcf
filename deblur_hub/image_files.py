"""The former place of what reads and writes picture files in `deblur_hub.pictures`; deprecated since 0.2."""

from .images import moved

PLACES = {
    "HOLDS": "formats:HOLDS",
    "Metadata": "metadata:Metadata",
    "DeepHeader": "deep:DeepHeader",
    "check_size": "opening:check_size",
    "converted": "modes:converted",
    "deep_header": "deep:read_deep_header",
    "extrema": "modes:extrema",
    "identify": "opening:identify",
    "load": "opening:load",
    "metadata": "metadata:read_metadata",
    "opened": "opening:binary_file",
    "orientation": "metadata:orientation_of",
    "read_deep": "deep:decode_deep",
}
__getattr__ = moved(__name__, {name: f"deblur_hub.pictures.{place}" for name, place in PLACES.items()})
