"""The numbers of pairs of the published sets, and notes on sets that have another number."""

from collections import Counter

from .pairs import Pair

# GoPro: Nah et al., CVPR 2017. HIDE: Shen et al., ICCV 2019. RealBlur: Rim et al., ECCV 2020.
# REDS: Nah et al., CVPR Workshops 2019.
COUNTS = {
    ("GoPro", "train"): 2103,
    ("GoPro", "test"): 1111,
    ("HIDE", "train"): 6397,
    ("HIDE", "test"): 2025,
    ("RealBlur-J", "train"): 3758,
    ("RealBlur-J", "test"): 980,
    ("RealBlur-R", "train"): 3758,
    ("RealBlur-R", "test"): 980,
    ("REDS", "train"): 24000,
    ("REDS", "val"): 3000,
}


def count_notes(pairs: list[Pair]) -> list[str]:
    """A sentence for each split of a published set whose number of pairs is not the published one."""
    notes = []
    for (source, split), found in sorted(Counter((pair.source, pair.split) for pair in pairs).items()):
        whole = COUNTS.get((source, split))
        if whole is None and source:
            parts = " and ".join(f"{count} in '{name}'" for (other, name), count in COUNTS.items() if other == source)
            notes.append(f"{source}: {found} pairs, of no known split; the whole set has {parts}")
        elif whole and found < whole:
            notes.append(f"{source}: {found} of the {whole} pairs of '{split}' are here; say so beside any score")
        elif whole and found > whole:
            notes.append(f"{source}: {found} pairs in '{split}', but the set has {whole}; it may lie here twice")
    return notes
