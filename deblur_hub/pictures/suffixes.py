"""Suffixes of pictures: those that folders are searched for, and those that are named as nothing reads them here."""

from importlib.util import find_spec

PICTURE_SUFFIXES = (
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".avif"}
    | {".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".icb", ".vda"}
    | {".vst", ".avifs"}
)
RAW_SUFFIXES = {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef"}
RAW_SUFFIXES |= {".srw", ".dcr", ".kdc", ".3fr", ".iiq", ".erf", ".mrw", ".x3f", ".raw"}
HEIF_SUFFIXES = {".heic", ".heif", ".hif", ".heics", ".heifs"}
JXL_SUFFIXES = {".jxl"}
# By the extra that reads them, with its package.
CAMERA_SUFFIXES = {
    ("heif", "pillow_heif"): HEIF_SUFFIXES,
    ("raw", "rawpy"): RAW_SUFFIXES,
    ("jxl", "pillow_jxl"): JXL_SUFFIXES,
}
UPLOADS = ["image", *sorted(set().union(*CAMERA_SUFFIXES.values()))]  # for a page: browsers do not know raw as images
DEVELOPED = RAW_SUFFIXES | JXL_SUFFIXES  # read and not written: their results are TIFFs
MISSED = RAW_SUFFIXES | HEIF_SUFFIXES | JXL_SUFFIXES | {".psd", ".psb", ".xcf", ".exr", ".hdr"}
MISSED |= {".svg", ".pam", ".pfm", ".pcx", ".qoi", ".dds", ".sgi", ".ico", ".jxr", ".wdp", ".hdp", ".jls", ".fits"}
VIDEOS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".3gp"}


def picture_suffixes() -> set[str]:
    """What folders are searched for: also the files of cameras whose package is installed."""
    return PICTURE_SUFFIXES.union(*CAMERA_SUFFIXES.values()).difference(*missing_extras().values())


def missing_extras() -> dict[str, set[str]]:
    """The suffixes that nothing installed reads, by the extra that would."""
    return {extra: suffixes for (extra, package), suffixes in CAMERA_SUFFIXES.items() if not is_installed(package)}


def is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # of a module that is there without a spec
        return False


def result_suffix(suffix: str) -> str:
    """The suffix of the result of a file with this one, where nobody asks for another."""
    return ".tif" if suffix.lower() in DEVELOPED else suffix
