"""HEIC and AVIF: what Pillow does not say of them or cuts to 8 bits, both ways."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ..errors import PictureError
from . import isobmff
from .exif import for_pillows_avif
from .metadata import Metadata

BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
DEPTHS = (10, 12)  # beside 8
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
# Those that are, or are shown as, sRGB: primaries, and transfer characteristics.
USUAL = ((1, 2), (1, 2, 6, 13))
MOST_WHOLE, TILE = 8192, 512  # pixels a side that one HEVC picture has, and of the tiles of larger ones
GAIN_MAP, DEPTH = "gainmap", ("auxid:2", "depth", "disparity")  # in the names of further pictures


def is_heic(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in BRANDS


def registers_heif() -> bool:
    """Makes Pillow read and write HEIC, if the package for it is installed; no if it does already, or cannot."""
    if "HEIF" in Image.OPEN:
        return False
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return "HEIF" in Image.OPEN


def need(name: str, *, written: bool = False) -> PictureError:
    other = "write .jpg instead" if written else "save the photo as JPEG first"
    return PictureError(
        f"{name}: HEIC needs another package; install it with pip install 'deblur-hub[heif]', or {other}"
    )


def depth_of(picture: Image.Image, file: BinaryIO, name: str) -> int:
    """Bits a channel of an opened HEIC or AVIF; what its colours mean goes into its `info`, as PNG's chunk `cICP`.

    Raises:
        PictureError: if it is HDR.
    """
    said = isobmff.properties(file)
    nclx = said.get(b"colrnclx", b"")
    if len(nclx) >= 10:
        primaries, transfer = struct.unpack(">2H", nclx[4:8])
        if transfer in HDR:
            raise PictureError(
                f"{name}: is HDR ({HDR[transfer]}), which the models do not know; convert it to SDR first"
            )
        usual = primaries in USUAL[0] and transfer in USUAL[1]
        if not usual and not picture.info.get("icc_profile") and max(primaries, transfer) < 256:
            picture.info["cicp"] = bytes((primaries, transfer, 0, 1))
    if b"tmap" in isobmff.described(file):  # a picture made of the main one and a gain map
        picture.info["gain_map"] = True
    bits, flags = said.get(b"pixi", b"")[5:6], (said.get(b"av1C", b"") + bytes(3))[2]
    told = bits[0] if bits else 12 if flags & 0x20 else 10 if flags & 0x40 else 8
    return int(picture.info.get("bit_depth", told))


def further_notes(picture: Image.Image) -> tuple[str, ...]:
    """Sentences on what else lies in an opened HEIC or AVIF: more pictures, depth and gain maps."""
    info, notes = picture.info, []
    frames = getattr(picture, "n_frames", 1)
    kinds = [str(kind) for kind in info.get("aux", ())]
    if frames > 1:
        kind = "pictures; only the main one" if picture.format == "HEIF" else "frames; only the first"
        notes.append(f"{frames} {kind} is restored")
    depth = bool(info.get("depth_images")) or any(part in kind for kind in kinds for part in DEPTH)
    if info.get("gain_map") or any(GAIN_MAP in kind for kind in kinds):
        notes.append("its gain map is not restored, and was left out")
    if depth:
        notes.append("its depth map is not restored, and was left out")
    others = [kind for kind in kinds if GAIN_MAP not in kind and not any(part in kind for part in DEPTH)]
    if others:
        notes.append(f"its masks are not restored, and were left out ({', '.join(sorted(others))})")
    return tuple(notes)


def decode(file: BinaryIO) -> np.ndarray:
    """(H, W[, C]) uint16 from 0 to the greatest sample of its depth, upright."""
    import pillow_heif

    return np.asarray(pillow_heif.open_heif(file, convert_hdr_to_8bit=False, hdr_to_16bit=False))


def options_of(metadata: Metadata, size: tuple[int, int], quality: int) -> dict[str, Any]:
    """For pillow-heif's `save`. Chroma has half the resolution, as in cameras' files: few viewers show any other."""
    known = {key: value for key, value in metadata.info().items() if key in ("exif", "xmp", "icc_profile")}
    known |= {"quality": quality, "chroma": 420, "tile_size": TILE if max(size) > MOST_WHOLE else 0}
    known["enc_params"] = {"preset": "medium"}  # twice as fast as libheif's choice, for 4 % more bytes
    if colours := colours_of(metadata):
        known |= dict(zip(("color_primaries", "transfer_characteristics"), colours, strict=True))
    return known


def colours_of(metadata: Metadata) -> tuple[int, int] | None:
    """Primaries and transfer characteristics of what has no profile, if they are not sRGB's."""
    said = next((contents for name, contents in metadata.chunks if name == b"cICP"), None)
    return (said[0], said[1]) if said and len(said) == 4 and not metadata.icc_profile else None


def with_bits(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of 16 bits as those of fewer."""
    most, made = (1 << bits) - 1, np.empty_like(samples)
    for row, fewer in zip(samples, made, strict=True):  # so that no wider ones of a whole picture exist
        fewer[:] = (row.astype(np.uint32) * most + 32767) // 65535
    return made


def save_heic(samples: np.ndarray, channels: str, path: Path, metadata: Metadata, *, bits: int, quality: int) -> None:
    """Writes (H, W, C) uint16 as HEIC of 10 or 12 bits."""
    import pillow_heif

    stored = with_bits(samples, bits)
    height, width = samples.shape[:2]
    known = options_of(metadata, (width, height), quality)
    made = pillow_heif.from_bytes(f"{channels};{bits}", (width, height), stored.tobytes())
    if profile := known.pop("icc_profile", None):
        made.info.update(icc_profile=profile, icc_profile_type="prof")
    made.save(path, **known)


def save_avif(samples: np.ndarray, channels: str, path: Path, metadata: Metadata, *, bits: int, quality: int) -> None:
    """Writes (H, W, C) uint16 as AVIF of 10 or 12 bits.

    imagecodecs writes samples of that depth and no metadata, and Pillow metadata and 8 bits, both through libavif. So
    the samples of the one take the place of a black picture of the other's, which stays behind as a few bytes.
    """
    import imagecodecs

    height, width = samples.shape[:2]
    known = {key: value for key, value in metadata.info().items() if key in ("exif", "xmp", "icc_profile")}
    if "exif" in known:
        known["exif"] = for_pillows_avif(known["exif"])
    Image.new(channels, (width, height)).save(path, "AVIF", subsampling="4:4:4", **known)
    deep = imagecodecs.avif_encode(with_bits(samples, bits), level=quality, bitspersample=bits)
    whole = bytearray(path.read_bytes())
    _, targets = isobmff.items(whole)
    for number, source in isobmff.items(deep)[1].items():
        target = targets[number]
        for kind in target.properties.keys() & source.properties.keys() & {b"pixi", b"av1C", b"colrnclx"}:
            (start, end), (first, last) = target.properties[kind], source.properties[kind]
            if end - start != last - first:
                raise ValueError(f"libavif writes {kind!r} in another way than is known here")
            whole[start:end] = deep[first:last]
        if target.place is None or source.place is None:
            raise ValueError("libavif lays its files out in another way than is known here")
        place, length = struct.unpack_from(">2I", deep, source.place)
        whole += struct.pack(">I4s", length + 8, b"mdat")
        struct.pack_into(">2I", whole, target.place, len(whole), length)
        whole += deep[place : place + length]
    path.write_bytes(whole)


def name_colours(path: Path, metadata: Metadata) -> None:
    """Puts what the colours of an AVIF without a profile mean, which Pillow does not write, where they are named."""
    if not (colours := colours_of(metadata)):
        return
    whole = bytearray(path.read_bytes())
    main, found = isobmff.items(whole)
    start, _ = found[main].properties[b"colrnclx"]
    struct.pack_into(">2H", whole, start + 4, *colours)
    path.write_bytes(whole)
