"""Blurry pictures and their sharp partners, in every layout that paired sets come in."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from .files import by_stem, folders_below, require_one_size

BLUR, SHARP = "blur", "sharp"
GOPRO_BLURS = ("blur", "blur_gamma")
GOPRO_SCENE = "GOPR"  # its scenes are named after the camera's files
SPLITS = ("train", "test", "val")
COUNTS = {  # pairs of the published sets
    "GoPro": {"train": 2103, "test": 1111},  # Nah et al., CVPR 2017
    "HIDE": {"train": 6397, "test": 2025},  # Shen et al., ICCV 2019
    "RealBlur-J": {"train": 3758, "test": 980},  # Rim et al., ECCV 2020
    "RealBlur-R": {"train": 3758, "test": 980},
    "REDS": {"train": 24000, "val": 3000},  # Nah et al., CVPR Workshops 2019
}


@dataclass(frozen=True)
class Pair:
    """A blurry picture and its sharp partner, of one size."""

    blurred: Path
    sharp: Path
    scene: str  # the folder that holds both folders, from the root of the search
    source: str = ""  # the set that the layout is of, of `COUNTS`; "" for folders of one's own
    split: str = ""  # train, test or val, where the layout or a folder of that name says so

    @property
    def name(self) -> str:
        return f"{self.scene}/{self.blurred.name}" if self.scene else self.blurred.name


def find_pairs(root: Path, *, blur: str = BLUR, sharp: str = SHARP) -> list[Pair]:
    """All pairs below `root`, searched to any depth, in the order of their folders and names.

    - `<scene>/<blur>` and `<scene>/<sharp>`: two folders of one's own, or GoPro's `train/GOPR0372_07_00/{blur,sharp}`.
      Partners have the same path in the two, whatever their suffix.
    - REDS: `train_<blur>/000` and `train_<sharp>/000`, and so on for any word in place of `train`; `blur_jpeg` as
      `blur` reads `train_blur_jpeg`.
    - HIDE: `GT` beside `train` or `test`, whose pictures at any depth have partners of their names in `GT`.
    - RealBlur: `scene001/blur/blur_1.png` and `scene001/gt/gt_1.png`; where lists such as `RealBlur_J_train_list.txt`
      lie above, those that they name, and no others.

    Args:
        blur, sharp: the names of the folders: `blur`, or GoPro's `blur_gamma`, or your own.

    Raises:
        DatasetError: if `root` is no folder, a picture lacks its partner or has two, the sizes of the two differ, or a
            scene of GoPro lacks the folder that `blur` names.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder that holds the pictures")
    pairs: list[Pair] = []
    listed: set[Path] = set()
    for folder in folders_below(root):
        if listed.isdisjoint((folder, *folder.parents)):
            own, below = listed_pairs(folder, root)
            pairs += own or folder_pairs(folder, root, blur, sharp)
            listed |= below
    for pair in pairs:
        require_one_size(pair.blurred, pair.sharp)
    return pairs


def folder_pairs(folder: Path, root: Path, blur: str, sharp: str) -> Iterator[Pair]:
    """The pairs of two folders that lie directly in `folder`, in whichever layout."""
    scene = scene_of(folder, root)
    inner = {path.name for path in folder.iterdir() if path.is_dir()}
    if {blur, sharp} <= inner:
        source = "GoPro" if folder.name.startswith(GOPRO_SCENE) and sharp == SHARP else ""
        yield from pair_up(folder / blur, folder / sharp, scene, source, split_of(folder, root))
    elif sharp in inner and (other := inner.intersection(GOPRO_BLURS)):
        raise DatasetError(
            f"{folder}: has no folder '{blur}' beside '{sharp}', but {' and '.join(map(repr, sorted(other)))}; "
            "name that one as the folder of blurry pictures, or take the scene out"
        )
    elif {"blur", "gt"} <= inner:
        yield from pair_up(folder / "blur", folder / "gt", scene, realblur_of(folder), split_of(folder, root))
    for name in sorted(inner):
        word = name.removesuffix(f"_{sharp}")
        if word != name and f"{word}_{blur}" in inner:
            split = word if word in SPLITS else split_of(folder, root)
            part = scene if folder.name == word else "/".join(filter(None, (scene, word)))
            source = "REDS" if word in SPLITS else ""
            yield from pair_up(folder / f"{word}_{blur}", folder / name, part, source, split)
    if "GT" in inner and "GT" not in (blur, sharp):
        for split in sorted(inner.intersection(SPLITS)):
            yield from hide_pairs(folder / split, folder / "GT", "/".join(filter(None, (scene, split))), split)


def pair_up(blurred: Path, sharp: Path, scene: str, source: str = "", split: str = "") -> list[Pair]:
    """The pairs of two folders, sorted by name; errors as in `find_pairs`."""
    repeats = (blurred.name, sharp.name) == ("blur", "gt")  # RealBlur has blur/blur_1.png and gt/gt_1.png
    left, right = (by_stem(folder, prefix=f"{folder.name}_" if repeats else "") for folder in (blurred, sharp))
    for name in sorted(left.keys() ^ right.keys()):
        have, lack = (left, sharp) if name in left else (right, blurred)
        raise DatasetError(f"{have[name]}: has no partner of that name in {lack}; add it or take this one out")
    return [Pair(left[name], right[name], nested(scene, name), source, split) for name in sorted(left)]


def nested(scene: str, name: str) -> str:
    """The scene of a picture that lies deeper in its folder."""
    return "/".join(filter(None, (scene, *Path(name).parts[:-1])))


def hide_pairs(blurred: Path, sharp: Path, scene: str, split: str) -> Iterator[Pair]:
    """One split of HIDE; the sharp folder serves both splits, so that only the blurry pictures must have partners."""
    partners = by_stem(sharp)
    for name, path in sorted(by_stem(blurred).items()):
        partner = partners.get(path.stem)
        if partner is None:
            raise DatasetError(f"{path}: has no partner of that name in {sharp}; add it or take this one out")
        yield Pair(path, partner, nested(scene, name), "HIDE", split)


def listed_pairs(folder: Path, root: Path) -> tuple[list[Pair], set[Path]]:
    """The pairs that RealBlur's lists in a folder name, and the folders that these lists cover.

    Each line names a sharp and a blurry picture, relative to that folder. A list of a part that is missing is skipped.
    """
    pairs: list[Pair] = []
    covered: set[Path] = set()
    for path in sorted(folder.glob("RealBlur_*_list.txt")):
        word = path.name.removesuffix("_list.txt").rpartition("_")[2]
        split = word if word in SPLITS else ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            names = [Path(name) for name in line.split()]
            if len(names) != 2 or any(name.is_absolute() or ".." in name.parts for name in names):
                raise DatasetError(f"{path}: line {number} does not name a sharp and a blurry picture; unpack it again")
            if not (folder / names[0].parts[0]).is_dir():
                break
            for name in names:
                if not (folder / name).is_file():
                    raise DatasetError(f"{folder / name}: is missing, though line {number} of {path} names it; add it")
            sharp, blurred = (folder / name for name in names)
            covered.add(folder / names[0].parts[0])
            pairs.append(Pair(blurred, sharp, scene_of(blurred.parent.parent, root), realblur_of(blurred), split))
    return pairs, covered


def realblur_of(path: Path) -> str:
    """RealBlur-J or RealBlur-R, by the folder that the set unpacks to; "" for neither."""
    names = (part.replace("_", "-")[: len("RealBlur-J")] for part in reversed(path.parts))
    return next((name for name in names if name in ("RealBlur-J", "RealBlur-R")), "")


def split_of(folder: Path, root: Path) -> str:
    """The split whose name the nearest of the folders has, from `folder` up to the root."""
    parts = (root.name, *folder.relative_to(root).parts)
    return next((part for part in reversed(parts) if part in SPLITS), "")


def scene_of(folder: Path, root: Path) -> str:
    return "/".join(folder.relative_to(root).parts)


def count_notes(pairs: list[Pair]) -> list[str]:
    """A sentence for each split of a published set whose number of pairs is not the published one."""
    notes = []
    for (source, split), found in sorted(Counter((pair.source, pair.split) for pair in pairs).items()):
        counts = COUNTS.get(source, {})
        whole = counts.get(split)
        if whole is None and source:
            parts = " and ".join(f"{count} in '{name}'" for name, count in counts.items())
            notes.append(f"{source}: {found} pairs, of no known split; the whole set has {parts}")
        elif whole and found < whole:
            notes.append(f"{source}: {found} of the {whole} pairs of '{split}' are here; say so beside any score")
        elif whole and found > whole:
            notes.append(f"{source}: {found} pairs in '{split}', but the set has {whole}; it may lie here twice")
    return notes
