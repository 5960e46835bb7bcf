"""A model's files from a hub repository, all of one commit; from the local cache where the hub cannot be reached."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from .bundled import list_models
from .files import CONFIG, Source, first_line, golden_file, index_file, weights_file
from .reading import drop
from .retries import OVERLOADED, patiently
from .verifying import is_damaged

COMMIT = re.compile("[0-9a-f]{40}")


def fetch(
    repo: str,
    *,
    revision: str | None,
    subfolder: str | None,
    variant: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local_files_only: bool,
    token: str | bool | None,
    force_download: bool,
    golden: bool = False,
) -> Source:
    """Downloads a repository's files, all from the commit that `revision` stands for at this moment.

    Where the hub cannot be reached, the files are taken from the local cache. A hub that is overloaded is asked again,
    and a file that arrives damaged is fetched again; none stays in the cache.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        HTTPError,  # of the HTTP client that this huggingface_hub is built on: httpx, or httpx2
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    called = f"{repo}@{revision}" if revision else repo
    cache = None if cache_dir is None else os.fspath(cache_dir)
    shelf = Shelf(repo, subfolder, cache, token, force_download, local_files_only)
    try:
        if not local_files_only:
            shelf.require_answer(revision)
        folder = shelf.get(CONFIG, revision).parent
        root = folder if not subfolder else folder.parents[len(Path(subfolder).parts) - 1]
        commit = root.name
        try:
            shelf.get(weights_file(variant), commit)
        except EntryNotFoundError as missing:
            try:
                parts = parts_named(shelf.get(index_file(variant), commit))
            except EntryNotFoundError:
                shelf.file = weights_file(variant)
                raise missing from None
            for part in parts:
                shelf.get(part, commit)
        if golden:
            with_golden(shelf, variant, commit)
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
            f"{called}: is not in the local cache, and {shelf.silence}; connect to the network, or take a bundled "
            f"model ({', '.join(list_models())})"
        ) from None
    except EntryNotFoundError:
        raise ModelError(
            f"{called}: has no {shelf.file}{f' in {subfolder}' if subfolder else ''}; it is not a deblur-hub "
            "model, or lacks this variant"
        ) from None
    except HFValidationError as reason:
        raise ModelError(f"{called}: {first_line(reason)}; check the name") from None
    except (HTTPError, OSError, RuntimeError, ValueError) as reason:
        raise ModelError(
            f"{called}: cannot be downloaded ({first_line(reason)}); try again later, or take a bundled "
            f"model ({', '.join(list_models())})"
        ) from None
    return Source(called, folder, commit)


def with_golden(shelf: "Shelf", variant: str | None, commit: str) -> None:
    """Fetches the golden tensors as well, if the repository has any."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        shelf.get(golden_file(variant), commit)
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        return


@dataclass
class Shelf:
    """Where one model's files are taken from: a repository, or what the cache holds of it."""

    repo: str
    subfolder: str | None
    cache_dir: str | None
    token: str | bool | None
    force_download: bool
    cache_alone: bool
    silence: str = "the hub was not asked"
    file: str = ""  # the one that was asked for last

    def require_answer(self, revision: str | None) -> None:
        """Turns to the cache alone if the hub does not answer: downloads try for half a minute and longer."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        self.file = CONFIG
        url = hf_hub_url(self.repo, self.file, subfolder=self.subfolder, revision=revision)
        try:
            patiently(lambda: get_hf_file_metadata(url, token=self.token))
        except (HTTPError, OSError) as reason:
            refused = isinstance(reason, HfHubHTTPError) and reason.response.status_code not in OVERLOADED
            if self.force_download or refused:
                raise
            self.cache_alone, self.silence = True, f"the hub cannot be reached ({first_line(reason)})"

    def get(self, file: str, revision: str | None) -> Path:
        """A file in the cache, where it is put if need be, as it is on the hub."""
        from huggingface_hub import try_to_load_from_cache

        self.file = file
        within = f"{self.subfolder}/{file}" if self.subfolder else file
        known = COMMIT.fullmatch(revision or "") and not self.force_download
        if known and isinstance(
            held := try_to_load_from_cache(self.repo, within, cache_dir=self.cache_dir, revision=revision), str
        ):
            return Path(held)
        path = self.download(revision, again=self.force_download)
        if is_damaged(path):
            path = self.download(revision, again=not self.cache_alone)
        if is_damaged(path):
            drop(path)
            raise OSError(f"{file} arrives damaged: its checksum is not the one that the hub states")
        return path

    def download(self, revision: str | None, *, again: bool) -> Path:
        from huggingface_hub import hf_hub_download

        path = patiently(
            lambda: hf_hub_download(
                self.repo,
                self.file,
                subfolder=self.subfolder,
                revision=revision,
                cache_dir=self.cache_dir,
                token=self.token,
                local_files_only=self.cache_alone,
                force_download=again,
            ),
            broken_lines=True,
        )
        return Path(path)


def parts_named(index: Path) -> list[str]:
    """The files over which an index spreads the weights; none for what is no index, which reading it will tell."""
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return sorted(name for name in named if isinstance(name, str) and re.fullmatch(r"[\w.-]+\.safetensors", name))
