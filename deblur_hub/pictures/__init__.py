"""Pictures from files, Pillow or arrays to tensors and back, with all that must survive the trip.

    tensor, original = read("photo.jpg")
    write(network(tensor), original, Path("sharp.jpg"))

`opening`    identifies the picture, checks its size and decodes it; `deep` does so for 16-bit colour and what else
             Pillow does not read. `png`, `jpeg`, `tiff`, `heif` (with `isobmff`), `raw` and `jxl` know what else stands
             in such files
`original`   describes it: mode, depth, palette, notes, `metadata` (with `exif` and `xmp`); turns it upright into a
             plain mode
`samples`    makes it, or parts of it, tensors, and after the restoration rows of samples again
`modes`      brings those back to the original's mode: palettes, transparent colours
`pages`      takes the pictures of a file one after another to one that holds them
`writing`    hands them over, or writes them whole or not at all in one of the `formats`, or by `deep`

Each step knows only those before it on its own way. Handing the tensor back unchanged gives the same samples back.
"""

from .metadata import Metadata
from .opening import upright_size
from .original import Original
from .pages import Strip, read_pages
from .samples import Samples, check, read, read_8_bits, read_samples, to_samples
from .writing import require_target, to_array, to_image, write, write_pages

__all__ = [
    "Metadata",
    "Original",
    "Samples",
    "Strip",
    "check",
    "read",
    "read_8_bits",
    "read_pages",
    "read_samples",
    "require_target",
    "to_array",
    "to_image",
    "to_samples",
    "upright_size",
    "write",
    "write_pages",
]
