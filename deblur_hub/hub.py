"""From a name to a configuration and tensors, strictly; and from those to a folder or a hub repository.

A model is a folder, or the same files in a hub repository:

    config.json         the configuration, see `config.py`
    model.safetensors   the tensors, with the SHA-256 of their bytes in the file's metadata
    README.md           the model card
    golden.safetensors  a small input and the output that these weights give for it
"""

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import GeneratorConfig
from .errors import ModelError, did_you_mean

CONFIG, CARD, GOLDEN = "config.json", "README.md", "golden.safetensors"
BUNDLED = Path(__file__).parent / "weights"
DEFAULT_MODEL = "compact"
REPO_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)
PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".h5")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Source:
    """Where a model comes from: what messages call it, the folder of its files, and the hub's commit if it has one."""

    name: str
    folder: Path
    commit: str = ""


def list_models() -> list[str]:
    """The names of the released models that are bundled, the default first."""
    names = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))
    return sorted(names, key=lambda name: name != DEFAULT_MODEL)


def weights_file(variant: str | None) -> str:
    """`model.safetensors`, or `model.<variant>.safetensors`."""
    return f"model.{variant}.safetensors" if variant else "model.safetensors"


def find(
    name_or_path: str | os.PathLike | None,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
) -> Source:
    """Finds a bundled model by name, a folder, or a hub repository `owner/name`, in this order; fetches the last.

    Raises:
        ModelError: if there is no such thing, or it cannot be reached.
    """
    name = DEFAULT_MODEL if name_or_path is None else os.fspath(name_or_path)
    if name in list_models() and not isinstance(name_or_path, Path):
        folder, called = BUNDLED / name, name
    elif os.path.isdir(name):  # noqa: PTH112 - pathlib's own raises for a name that is too long
        folder, called = Path(name), name
    elif os.path.exists(name):  # noqa: PTH110 - the same
        hint = "bring it into our format first" if name.endswith(PICKLES) else "give the folder that holds it"
        raise ModelError(f"{name}: is a file, not a model folder with {CONFIG} and {weights_file(variant)}; {hint}")
    elif REPO_ID.fullmatch(name):
        return fetch(
            name,
            revision=revision,
            subfolder=subfolder,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            force_download=force_download,
        )
    else:
        raise ModelError(
            f"model '{name:.99}': neither a bundled model ({', '.join(list_models())}), nor a folder, nor "
            f"a hub repository 'owner/name'{did_you_mean(name, list_models())}"
        )
    if revision is not None:
        raise ModelError(
            f"model '{called}': 'revision' is for hub repositories, and this is a local folder; leave it away"
        )
    folder = folder / (subfolder or "")
    for file in (CONFIG, weights_file(variant)):
        if not (folder / file).is_file():
            pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES)
            extra = f" (it holds {pickles[0]}, which is never opened: only safetensors are)" if pickles else ""
            raise ModelError(f"{folder}: has no {file}{extra}; a model folder is what save_pretrained() writes")
    return Source(called, folder)


def fetch(
    repo: str,
    *,
    revision: str | None,
    subfolder: str | None,
    variant: str | None,
    cache_dir: str | os.PathLike | None,
    local_files_only: bool,
    token: str | bool | None,
    force_download: bool,
) -> Source:
    """Downloads a repository's files, all from the commit that `revision` stands for at this moment.

    Where the hub cannot be reached, the files are taken from the local cache.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # of the HTTP client that this huggingface_hub is built on: httpx, or httpx2
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    called = f"{repo}@{revision}" if revision else repo
    commit = revision
    folder, file = Path(), weights_file(variant)
    silence = "the hub was not asked"
    try:
        if not local_files_only:
            try:  # downloads retry for half a minute and longer; this shows at once whether there is a network
                get_hf_file_metadata(hf_hub_url(repo, file, subfolder=subfolder, revision=revision), token=token)
            except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
                raise
            except (HTTPError, OSError) as reason:
                if force_download or (isinstance(reason, HfHubHTTPError) and reason.response.status_code < 500):
                    raise
                local_files_only, silence = True, f"the hub cannot be reached ({first_line(reason)})"
        for file in (CONFIG, weights_file(variant)):
            path = Path(
                hf_hub_download(
                    repo,
                    file,
                    subfolder=subfolder,
                    revision=commit,
                    cache_dir=cache_dir,
                    token=token,
                    local_files_only=local_files_only,
                    force_download=force_download,
                )
            )
            folder = path.parent
            root = folder if not subfolder else folder.parents[len(Path(subfolder).parts) - 1]
            commit = root.name
    except GatedRepoError:
        raise ModelError(f"{called}: is gated; ask for access on its page and log in with 'hf auth login'") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{called}: no such repository, or it is private; check the name, or log in with "
            "'hf auth login' or token=..."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{called}: the repository has no such branch, tag or commit; look at its page") from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{called}: is not in the local cache, and {silence}; connect to the network, or take a "
            f"bundled model ({', '.join(list_models())})"
        ) from None
    except EntryNotFoundError:
        raise ModelError(
            f"{called}: has no {file}{f' in {subfolder}' if subfolder else ''}; it is not a deblur-hub "
            "model, or lacks this variant"
        ) from None
    except HFValidationError as reason:
        raise ModelError(f"{called}: {first_line(reason)}; check the name") from None
    except (HTTPError, OSError, RuntimeError, ValueError) as reason:
        raise ModelError(
            f"{called}: cannot be downloaded ({first_line(reason)}); try again later, or take a bundled "
            f"model ({', '.join(list_models())})"
        ) from None
    return Source(called, folder, commit or "")


def first_line(reason: Exception) -> str:
    """What an error of a library says, short enough for a sentence of ours."""
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0].rstrip(".")


def read_config(source: Source) -> GeneratorConfig:
    """The configuration of a found model; `ModelError` if it is not one that this version knows."""
    try:
        text = (source.folder / CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        raise ModelError(
            f"{source.name}: {CONFIG} cannot be read ({reason}); download or save the model again"
        ) from None
    return GeneratorConfig.from_json(text, source=f"{source.name}: {CONFIG}")


def read_tensors(source: Source, variant: str | None, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a found model, exactly those that are expected.

    Args:
        expected: name -> tensor of the right shape, for instance on the meta device.

    Raises:
        ModelError: if the file is no safetensors file or fails its checksum; a tensor is missing, not expected, of
            another shape, holds values that are not finite numbers, or is not of floats where floats are expected, nor
            of the integers where a count is.
    """
    path = source.folder / weights_file(variant)
    what = f"{source.name}: {path.name}"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
            check_shapes(what, shapes, expected)
            tensors = {key: file.get_tensor(key) for key in shapes}
    except (SafetensorError, OSError, ValueError) as reason:
        raise ModelError(
            f"{what} is not a safetensors file, or is cut short ({first_line(reason)}); download or save it again"
        ) from None
    if "sha256" in metadata and metadata["sha256"] != checksum(tensors):
        raise ModelError(f"{what} fails its checksum; download or save it again")
    for key, tensor in tensors.items():
        counts = not expected[key].is_floating_point()  # such as batch normalisation's number of batches
        if tensor.dtype not in ((expected[key].dtype,) if counts else FLOATS):
            wanted = str(expected[key].dtype)[6:] if counts else "floats"
            raise ModelError(
                f"{what}: tensor '{key}' is of type {str(tensor.dtype)[6:]}, not of {wanted}; save it again"
            )
        if not finite(tensor):
            raise ModelError(f"{what}: tensor '{key:.80}' holds values that are not finite; take an earlier checkpoint")
    return tensors


def finite(tensor: Tensor) -> bool:
    """Whether every value is a finite number; counts always are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def check_shapes(what: str, shapes: dict[str, tuple[int, ...]], expected: dict[str, Tensor]) -> None:
    missing, surplus = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    if surplus:
        raise ModelError(
            f"{what} has {len(surplus)} tensor(s) that this network lacks, such as '{surplus[0]:.80}'"
            f"{did_you_mean(surplus[0], missing)}; the weights are of another architecture than {CONFIG}"
        )
    if missing:
        raise ModelError(
            f"{what} lacks {len(missing)} tensor(s), such as '{missing[0]}'; "
            f"the weights are of another architecture than {CONFIG}"
        )
    for key, shape in shapes.items():
        if shape != tuple(expected[key].shape):
            raise ModelError(
                f"{what}: tensor '{key}' is {list(shape)} where the network wants "
                f"{list(expected[key].shape)}; the weights are of another size than {CONFIG}"
            )


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_model(
    folder: Path,
    config: GeneratorConfig,
    tensors: dict[str, Tensor],
    *,
    variant: str | None = None,
    card: str = "",
    golden: dict[str, Tensor] | None = None,
) -> None:
    """Writes a model's files aside and then puts them in place, so that a failure leaves what was there.

    Raises:
        ModelError: if the folder cannot be written, or a value is not finite: such weights could not be read back.
    """
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        if not finite(tensor):
            raise ModelError(
                f"{folder}: not written, as tensor '{key}' holds values that are not finite in "
                f"{str(tensor.dtype)[6:]}; save it in float32, or take an earlier checkpoint"
            )
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    except OSError as reason:
        raise ModelError(f"{folder}: cannot be written ({reason.strerror}); name another folder") from None
    try:
        # One entry alone: safetensors writes several in random order, and equal models are to be equal files.
        save_file(tensors, aside / weights_file(variant), {"sha256": checksum(tensors)})
        (aside / CONFIG).write_text(config.to_json(), encoding="utf-8")
        if card:
            (aside / CARD).write_text(card, encoding="utf-8")
        if golden:
            save_file(golden, aside / GOLDEN)
        mode, files = (aside / CONFIG).stat().st_mode, sorted(aside.iterdir())
        for file in files:
            if (folder / file.name).is_dir():
                raise IsADirectoryError(f"there is a folder called {file.name}")
            file.chmod(mode)  # safetensors writes for the owner's eyes alone
        for file in files:
            file.replace(folder / file.name)
    except (OSError, SafetensorError) as reason:
        raise ModelError(f"{folder}: cannot be written ({reason}); free some space or name another folder") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if fresh and not any(folder.iterdir()):
            folder.rmdir()


def commit_holding(repo: str, revision: str, weights: Path, *, token: str | bool | None) -> str:
    """The address of the commit that a branch or tag stands for, if it holds a weights file; else ''."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError

    try:
        held = get_hf_file_metadata(address := hf_hub_url(repo, weights.name, revision=revision), token=token)
    except (HFValidationError, LocalTokenNotFoundError, HTTPError, OSError, ValueError):
        return ""  # no such repository, tag or file, or no way to ask
    with weights.open("rb") as file:
        own = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{address.partition('/resolve/')[0]}/commit/{held.commit_hash}" if held.etag == own else ""


def push(
    folder: Path,
    repo: str,
    *,
    revision: str | None,
    private: bool | None,
    create_pr: bool,
    commit_message: str,
    token: str | bool | None,
    tag: str = "",
) -> str:
    """Uploads a model folder in one commit, creating the repository if need be; returns the commit's address.

    Files that the repository has already make no commit; the address is then that of its newest. A tag that stands for
    another commit stays where it is: people rely on it.

    Raises:
        ModelError: if the hub refuses or cannot be reached, and nothing is half-uploaded; or the tag is taken.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError

    api = HfApi(token=token)
    try:
        repo = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        made = api.upload_folder(
            repo_id=repo, folder_path=folder, revision=revision, create_pr=create_pr, commit_message=commit_message
        )
        if tag:
            api.create_tag(repo, tag=tag, revision=made.oid, exist_ok=True)
            (held,) = (found.target_commit for found in api.list_repo_refs(repo).tags if found.name == tag)
            if held != made.oid:
                raise ModelError(
                    f"{repo}: the model is published ({made}), but the tag '{tag}' stands for the earlier commit "
                    f"{held[:10]}; name another tag, or remove that one on the repository's page"
                )
        return str(made)
    except (HFValidationError, LocalTokenNotFoundError) as reason:
        raise ModelError(f"{repo}: {first_line(reason)}; give an 'owner/name' and a token") from None
    except (HTTPError, OSError, ValueError) as reason:
        raise ModelError(
            f"{repo}: cannot be published ({first_line(reason)}); log in with 'hf auth login' and try again"
        ) from None
