"""The page and this package as a Hugging Face Space, in one commit, as often as one likes.

A Space is built before its files are there: pip sees `requirements.txt` and nothing beside it, so that file cannot name
a wheel of the Space, and a private Space's own address is closed to it. The package therefore lies unpacked beside
`app.py`, where Python looks first, and `requirements.txt` names what the package needs.
"""

from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import ModelError
from ..model_card.merging import assembled, split, with_front
from .bundled import list_models
from .downloading import with_retries
from .files import CARD, CONFIG
from .finding import REPO_ID
from .publishing import committed, explained

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PACKAGE = Path(__file__).resolve().parents[1]
THREADS = {"cross-origin-embedder-policy": "require-corp", "cross-origin-opener-policy": "same-origin"}
STATIC_CARD = """Restores blurry photos in the browser; they never leave the machine. Made by `deblur-hub publish-space
--static`. The files in `runtime/` are ONNX Runtime Web (Microsoft, MIT).
"""
SETTINGS = "space.toml"  # what the page reads of how it was published


def publish_space(
    page: Path,
    repo: str,
    *,
    model: str | None = None,
    private: bool | None = None,
    hardware: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Uploads the page's folder and this package, creating the Space if need be; returns the address of the commit.

    Files that the Space has already make no commit. Other files of the Space stay, and so does what people wrote into
    its README.

    Args:
        page: the folder that holds app.py and a README.md with a front matter.
        repo: `owner/name`.
        model: which the page offers first, a bundled one or `owner/name`; None leaves the Space's choice as it is.
        private, hardware: of a Space that is created; None takes the hub's default.

    Raises:
        ModelError: if the hub refuses or cannot be reached, there is no such model, or gradio is not installed.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    if model:
        require_model(api, model)
    files, card = page_files(page, model), page_card(page, model)
    with explained(repo):
        options: dict[str, Any] = {"repo_type": "space", "space_sdk": "gradio"}
        options |= {"space_hardware": hardware, "private": private}
        repo = with_retries(lambda: api.create_repo(repo, exist_ok=True, **options)).repo_id
        message = {"commit_message": f"The page of deblur-hub {__version__}"}
        return str(committed(api, files, card, repo, repo_type="space", folder="deblur_hub/", options=message))


def publish_static_space(
    folder: Path, repo: str, *, model: str | None = None, private: bool | None = None, token: str | bool | None = None
) -> str:
    """Uploads a folder that `deblur_hub.export.web` wrote as a static Space, which computes in the visitor's browser.

    Args as for `publish_space`; the model is named in the card alone. What the Space holds in `runtime/` and is not in
    the folder is removed. Returns the address of the commit.

    Raises:
        ModelError: if the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    front: dict[str, Any] = {"title": "Deblur a photo", "emoji": "📷", "colorFrom": "blue", "colorTo": "gray"}
    front |= {"sdk": "static", "app_file": "index.html", "license": "apache-2.0", "custom_headers": THREADS}
    front |= {"models": [model]} if model and model not in list_models() else {}
    card = assembled(with_front(front, ""), STATIC_CARD)
    with explained(repo):
        options: dict[str, Any] = {"repo_type": "space", "space_sdk": "static", "private": private}
        repo = with_retries(lambda: api.create_repo(repo, exist_ok=True, **options)).repo_id
        message = {"commit_message": f"The static page of deblur-hub {__version__}"}
        return str(committed(api, contents(folder), card, repo, repo_type="space", folder="runtime/", options=message))


def require_model(api: "HfApi", model: str) -> None:
    """ModelError unless it is a bundled model or a hub repository that holds one."""
    if model in list_models():
        return
    with explained(model, "cannot be asked for"):
        if not REPO_ID.fullmatch(model) or not with_retries(lambda: api.file_exists(model, CONFIG)):
            raise ModelError(
                f"{model}: neither a bundled model ({', '.join(list_models())}) nor a hub repository with {CONFIG}; "
                "upload it first, with 'deblur-hub publish'"
            )


def page_files(page: Path, model: str | None) -> dict[str, Path | bytes]:
    """What the Space holds besides its README, by name: the page, the package, what that needs and the model's name."""
    package = {f"deblur_hub/{name}": path for name, path in contents(PACKAGE).items() if not path.is_relative_to(page)}
    files: dict[str, Path | bytes] = contents(page) | package | {"requirements.txt": requirements()}
    del files[CARD]
    return files | ({SETTINGS: f'model = "{model}"\n'.encode()} if model else {})


def contents(folder: Path) -> dict[str, Path]:
    """The files in a folder by their names in it, without hidden ones and Python's caches."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    }


def requirements() -> bytes:
    """What this package needs for the page, as pip reads it."""
    from packaging.requirements import Requirement  # comes with huggingface_hub

    try:
        stated = [Requirement(line) for line in requires("deblur-hub") or ()]
    except PackageNotFoundError:
        raise ModelError("deblur-hub is not installed, so what it needs is not known; install it with pip") from None
    needed = [
        one
        for one in stated
        if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in ("space", "heif", "jxl", "raw"))
    ]
    return "".join(f"{one.name}{one.specifier}\n" for one in needed).encode()


def page_card(page: Path, model: str | None) -> str:
    """The Space's README: that of the page, for the gradio that is installed here."""
    front, text = split((page / CARD).read_text(encoding="utf-8"))
    try:
        front["sdk_version"] = version("gradio")
    except PackageNotFoundError:
        raise ModelError("a Space needs gradio; install it with: pip install 'deblur-hub[space]'") from None
    if model and model not in list_models():
        front["models"] = [model]
    return assembled(with_front(front, ""), f"{text.strip()}\n")
