"""From a name, a folder or a hub repository to the folder of a model's files."""

import os
import re
from pathlib import Path

from ..errors import ModelError, did_you_mean
from .bundled import DEFAULT_MODEL, bundled_folder, list_models
from .downloading import HubModel
from .files import CONFIG, Source, index_file, weights_file

REPO_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)
GONE = {  # models that were bundled once
    "compact-gan": "take the default and its crispness (--crispness 0.5)",
    "deblurgan": "its weights are in the repository, in train/deblurgan",
}
PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".h5")


def find(
    name_or_path: str | os.PathLike[str] | None,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
    golden: bool = False,
) -> Source:
    """Finds a bundled model by name, a folder, or a hub repository `owner/name`, in this order; fetches the last, with
    its `golden` tensors if there are any. Raises ModelError if there is no such thing, or it cannot be reached."""
    name = DEFAULT_MODEL if name_or_path is None else os.fspath(name_or_path)
    if name in list_models() and not isinstance(name_or_path, Path):
        folder = bundled_folder(name)
    elif os.path.isdir(name):  # noqa: PTH112 - pathlib's own raises for a name that is too long
        folder = Path(name)
    elif os.path.exists(name):  # noqa: PTH110 - the same
        hint = "bring it into our format first" if name.endswith(PICKLES) else "give the folder that holds it"
        raise ModelError(f"{name}: is a file, not a model folder with {CONFIG} and {weights_file(variant)}; {hint}")
    elif REPO_ID.fullmatch(name):
        cache = None if cache_dir is None else os.fspath(cache_dir)
        model = HubModel(name, revision, subfolder, variant, cache, token)
        return model.fetch(local_files_only=local_files_only, force_download=force_download, golden=golden)
    elif name in GONE:
        raise ModelError(f"model '{name}': was bundled up to 0.1.0; {GONE[name]}")
    else:
        raise ModelError(
            f"model '{name:.99}': neither a bundled model ({', '.join(list_models())}), nor a folder, nor "
            f"a hub repository 'owner/name'{did_you_mean(name, list_models())}"
        )
    if revision is not None:
        raise ModelError(f"model '{name}': 'revision' is for hub repositories, and this is a local folder; omit it")
    folder = folder / (subfolder or "")
    for file, *others in ([CONFIG], [weights_file(variant), index_file(variant)]):
        if not any((folder / name).is_file() for name in (file, *others)):
            pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
            extra = f" (it holds {pickles[0]}, which is never opened: only safetensors are)" if pickles else ""
            raise ModelError(f"{folder}: has no {file}{extra}; a model folder is what save_pretrained() writes")
    return Source(name, folder)
