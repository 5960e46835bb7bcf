"""Pictures from files, Pillow or arrays to tensors and back, with all that must survive the trip.

    tensor, original = read("photo.jpg")
    write(network(tensor), original, Path("sharp.jpg"))

`opening`    identifies the picture, checks its size and decodes it; `deep` does so for 16-bit colour
`original`   describes it: mode, depth, palette, `metadata`, notes for the user; turns it upright into a plain mode
`samples`    makes it a tensor, in `read`, and after the restoration rows of samples again
`modes`      brings those back to the original's mode: palettes, transparent colours
`writing`    hands them over, or writes them whole or not at all in one of the `formats`, or as 16-bit colour by `deep`

Each step knows only those before it on its own way. Handing the tensor back unchanged gives the same samples back.
"""

from .metadata import Metadata
from .original import Original
from .samples import read
from .writing import to_array, to_image, write

__all__ = ["Metadata", "Original", "read", "to_array", "to_image", "write"]
