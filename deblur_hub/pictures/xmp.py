"""XMP made true of the restored picture: upright, of its size, without what the file no longer holds."""

import bisect
import re

SPACE = rb"(?<!\s)\s+"  # from its beginning: packets are padded with much of it, and each part would be tried
QUOTED = rb"""(?:"[^"]*"|'[^']*')"""
UPRIGHT = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>))[2-8]""")
WIDTHS, HEIGHTS = (rb"tiff:ImageWidth|exif:PixelXDimension", rb"tiff:ImageLength|exif:PixelYDimension")
# Of an Ultra HDR or HDR JPEG, and of a motion photo: what they say of data that follows the picture in its file.
GAIN_MAP, MOTION = rb"(?:hdrgm|HDRGainMap)", rb"GCamera:(?:MicroVideo|MotionPhoto)"
POSITION = rb"exif:GPS"
THUMBNAILS = rb"xmp:Thumbnails"


def true_xmp(xmp: bytes, size: tuple[int, int]) -> tuple[bytes, tuple[str, ...]]:
    """The packet with orientation 1 and `size` (width, height), and what it spoke of that is left out.

    Returns:
        The packet, and the names of what was dropped: "gain map", "motion photo".
    """
    xmp = UPRIGHT.sub(rb"\g<1>1", xmp)
    for names, length in zip((WIDTHS, HEIGHTS), size, strict=True):
        xmp = re.sub(rb"""((?:%s)(?:\s*=\s*["']|>))\d+""" % names, rb"\g<1>%d" % length, xmp)
    xmp = without(xmp, THUMBNAILS)
    dropped = []
    if re.search(GAIN_MAP + rb":\w", xmp) or re.search(rb"Semantic\s*=\s*.GainMap", xmp):
        dropped.append("gain map")
    if re.search(MOTION, xmp) or re.search(rb"Semantic\s*=\s*.MotionPhoto", xmp):
        dropped.append("motion photo")
    if dropped:
        xmp = without(without(xmp, GAIN_MAP + rb":"), MOTION)
        xmp = without(xmp, rb"Container:Directory")
        xmp = re.sub(SPACE + rb"xmlns:%s\s*=\s*%s" % (GAIN_MAP, QUOTED), b"", xmp)
    return xmp, tuple(dropped)


def orientation_of(xmp: bytes) -> int:
    """The orientation that the packet speaks of, 2 to 8; 1 if it speaks of no such."""
    found = UPRIGHT.search(xmp)
    return int(found[0][-1:]) if found else 1


def without_position(xmp: bytes) -> bytes:
    """The packet without where the picture was taken."""
    return without(xmp, POSITION)


def without(xmp: bytes, name: bytes) -> bytes:
    """The packet without the properties whose names begin with the pattern `name`, be they attributes or elements."""
    xmp = re.sub(SPACE + rb"%s\w*\s*=\s*%s" % (name, QUOTED), b"", xmp)
    ends: dict[bytes, list[int]] = {}  # of each element; sought once, as packets may hold any number without an end
    for end in re.finditer(rb"</(%s\w*)\s*>\s*" % name, xmp):
        ends.setdefault(end[1], []).append(end.end())
    kept, place = [], 0
    for start in re.finditer(rb"<(%s\w*)(?:\s[^<>]*?)?(/>\s*|>)" % name, xmp):
        later = ends.get(start[1], []) if start[2] == b">" else [start.end()]
        number = bisect.bisect_left(later, start.end())
        if number < len(later) and start.start() >= place:
            kept.append(xmp[place : start.start()])
            place = later[number]
    return b"".join([*kept, xmp[place:]])
