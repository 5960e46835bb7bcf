"""What an exported file says of itself: texts by name, in the metadata of ONNX and beside a torch.export program."""

import json
from dataclasses import asdict

from .. import __version__
from ..generator import DeblurGenerator
from ..hub import checksum
from ..networks.windows import WindowedGenerator
from ..restoration.quality import step_of

PICTURE = "RGB, (1, 3, height, width) float32 in [0, 1]"
WINDOWS = "cut the picture into the windows of 'windows', which read beyond it by reflection"


def quality_of(generator: DeblurGenerator, quality: str | None) -> str:
    """The name of the quality that is exported, the best unless one is asked for; '' of a model that has a single one.

    Raises ModelError or RestorationError for one that the model does not know.
    """
    network = generator.network
    if not isinstance(network, WindowedGenerator):
        return ""
    step = network.best if quality is None else step_of(network, quality)
    return next(name for name, one in network.qualities.items() if one == step)


def notes_of(generator: DeblurGenerator, quality: str, *, half: bool, licence: str) -> dict[str, str]:
    """Everything that a program needs to restore pictures with the file, and where it comes from."""
    network, windowed = generator.network, isinstance(generator.network, WindowedGenerator)
    notes = {
        "library": f"deblur-hub {__version__}",
        "model": generator.config.name or generator.config.architecture,
        "architecture": generator.config.architecture,
        "source": network.source,
        "licence": licence or network.licence,
        "weights_sha256": checksum(network.state_dict()),
        "precision": "float16" if half else "float32",
        "input": f"picture: {PICTURE}",
        "output": f"restored: {PICTURE}",
        "preprocessing": WINDOWS if windowed else "divide 8-bit values by 255",
        "postprocessing": "blend the windows by their ramps, clip to [0, 1]" if windowed else "multiply by 255, round",
        "size_multiple": str(network.size_multiple),
    }
    if isinstance(network, WindowedGenerator):
        windows = network.windows.doubled() if network.qualities[quality].halved else network.windows
        notes |= {"quality": quality, "size_multiple": str(windows.multiple), "windows": json.dumps(asdict(windows))}
    elif network.receptive_field is not None:
        notes["receptive_field"] = str(network.receptive_field)
    return notes
