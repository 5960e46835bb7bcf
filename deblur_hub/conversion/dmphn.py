"""The DMPHN authors' checkpoints: a folder of encoder_lv1.pkl, decoder_lv1.pkl, encoder_lv2.pkl and so on.

`deblur-hub convert` takes the folder; each tensor arrives here behind the name of its file, as in
`encoder_lv1.layer2.0.weight`. Their layers are numbered through encoder and decoder, with gaps; a number with `.0`
and `.2` behind it is a residual block.
"""

import re

from torch import Tensor

from ..errors import ModelError
from .layout import Converted, keys_of, renamed, unlike

LAYOUT = "DMPHN (HongguangZhang)"
PATCHES = {3: "1-2-4", 4: "1-2-4-8"}  # by the number of levels

# The authors' number of a convolution or of a residual block -> our place in the same sequence.
PLAIN = {"encoder": {1: "0", 5: "2", 9: "4"}, "decoder": {16: "1", 20: "3", 24: "5"}}
BLOCKS = {
    "encoder": {2: "1.0", 3: "1.1", 6: "3.0", 7: "3.1", 10: "5.0", 11: "5.1"},
    "decoder": {13: "0.0", 14: "0.1", 17: "2.0", 18: "2.1", 21: "4.0", 22: "4.1"},
}


def recognise(tensors: dict[str, Tensor]) -> Converted | None:
    """DMPHN of any width, of three or four levels."""
    for part in PLAIN:
        if tensors.keys() == names(part).keys():
            raise ModelError(
                f"this file is one {part} of a DMPHN and of no use alone; give the folder that holds it with the "
                "others (encoder_lv1.pkl, decoder_lv1.pkl, encoder_lv2.pkl, ...)"
            )
    parts = {key.split(".")[0] for key in tensors if re.fullmatch(r"(en|de)coder_(s\d_)?lv\d\.layer\d+\..+", key)}
    if not parts:
        return None
    if any("_s" in part for part in parts):
        raise ModelError(
            "this is a stack of several DMPHNs (SDNet), which this version does not have; "
            "convert the folder DMPHN_1_2_4 or DMPHN_1_2_4_8"
        )
    levels = max(3, *(int(part[-1]) for part in parts))
    wanted = {
        f"{part}_lv{level}.{theirs}": f"{part}s.{level - 1}.{ours}"
        for level in range(1, levels + 1)
        for part in PLAIN
        for theirs, ours in names(part).items()
    }
    absent = sorted({key.split(".")[0] for key in wanted} - parts)
    if absent or levels not in PATCHES:
        found = f"lacks {', '.join(f'{part}.pkl' for part in absent)}" if absent else f"has {levels} levels"
        raise ModelError(f"this DMPHN {found}; give the folder with an encoder and a decoder for each of 3 or 4 levels")
    converted = renamed(LAYOUT, wanted, tensors)
    width = tensors["encoder_lv1.layer1.bias"].numel()
    return Converted(LAYOUT, "dmphn", unlike("dmphn", patches=PATCHES[levels], width=width), converted)


def names(part: str) -> dict[str, str]:
    """The authors' keys of an encoder or a decoder -> ours."""
    layers = {f"layer{number}": ours for number, ours in PLAIN[part].items()}
    for number, ours in BLOCKS[part].items():
        layers |= {f"layer{number}.0": f"{ours}.first", f"layer{number}.2": f"{ours}.second"}
    return keys_of(layers)
