"""Suffixes of pictures: those that folders are searched for, and those that are named as nothing writes them here."""

PICTURE_SUFFIXES = (
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".avif"}
    | {".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".icb", ".vda"}
    | {".vst", ".avifs"}
)
RAW_SUFFIXES = {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef"}
RAW_SUFFIXES |= {".srw", ".dcr", ".kdc", ".3fr", ".iiq", ".erf", ".mrw", ".x3f", ".raw"}
MISSED = RAW_SUFFIXES | {".heic", ".heif", ".hif", ".heics", ".heifs", ".jxl", ".psd", ".psb", ".xcf", ".exr", ".hdr"}
MISSED |= {".svg", ".pam", ".pfm", ".pcx", ".qoi", ".dds", ".sgi", ".ico", ".jxr", ".wdp", ".hdp", ".jls", ".fits"}
VIDEOS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".3gp"}
