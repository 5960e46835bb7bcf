"""A model's files from a hub repository, all of one commit; from the local cache where the hub cannot be reached."""

import json
import os
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from ..errors import ModelError
from .bundled import list_models
from .files import CONFIG, Source, first_line, golden_file, index_file, weights_file
from .reading import BESIDE, drop
from .retries import OVERLOADED, with_retries
from .verifying import is_damaged


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
    bundled = f"a bundled model ({', '.join(list_models())})"
    cache = None if cache_dir is None else os.fspath(cache_dir)
    model = HubModel(repo, revision, subfolder, variant, cache, token)
    silence, missing = "the hub was not asked" if local_files_only else "", CONFIG
    try:
        commit = ""
        if not local_files_only:
            try:
                commit = model.newest_commit()
            except (HTTPError, OSError) as reason:
                refusal = getattr(reason, "response", None)
                if force_download or (refusal is not None and refusal.status_code not in OVERLOADED):
                    raise
                silence = f"the hub cannot be reached ({first_line(reason)})"
        folder = model.cached_folder()
        missing = model.missing_file(folder, golden=golden) if folder else CONFIG
        if not silence and (missing or force_download or not folder or model.commit_of(folder) != commit):
            folder = model.download(golden=golden, again=force_download)
            missing = model.missing_file(folder, golden=False)
        if missing or not folder:
            raise LocalEntryNotFoundError(missing) if silence else EntryNotFoundError(missing)
    except GatedRepoError:
        raise ModelError(f"{called}: is gated; ask for access on its page and log in with 'hf auth login'") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{called}: no such repository, or it is private; check the name, or log in with "
            "'hf auth login' or token=..."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{called}: the repository has no such branch, tag or commit; look at its page") from None
    except HFValidationError as reason:
        raise ModelError(f"{called}: {first_line(reason)}; check the name") from None
    except (EntryNotFoundError, HTTPError, OSError, RuntimeError, ValueError) as reason:
        if silence and isinstance(reason, LocalEntryNotFoundError):
            told = f"is not in the local cache, and {silence}; connect to the network, or take {bundled}"
        elif isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError):
            where = f" in {subfolder}" if subfolder else ""
            told = f"has no {missing}{where}; it is not a deblur-hub model, or lacks this variant"
        else:
            told = f"cannot be downloaded ({first_line(reason)}); try again later, or take {bundled}"
        raise ModelError(f"{called}: {told}") from None
    return Source(called, folder, model.commit_of(folder))


@dataclass
class HubModel:
    """A model's files in a repository, and what the cache holds of them."""

    repo: str
    revision: str | None
    subfolder: str | None
    variant: str | None
    cache_dir: str | None
    token: str | bool | None

    def newest_commit(self) -> str:
        """Asks the hub which commit the revision stands for, by a request for the configuration."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self.repo, CONFIG, subfolder=self.subfolder, revision=self.revision)
        return with_retries(lambda: get_hf_file_metadata(url, token=self.token)).commit_hash or ""

    def commit_of(self, folder: Path) -> str:
        return (folder if not self.subfolder else folder.parents[len(Path(self.subfolder).parts) - 1]).name

    def within(self, file: str) -> str:
        return f"{self.subfolder}/{file}" if self.subfolder else file

    def cached_folder(self) -> Path | None:
        """The folder of the commit that the revision stood for when it was last downloaded."""
        held = self.cached(CONFIG)
        return held.parent if held else None

    def cached(self, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        held = try_to_load_from_cache(self.repo, self.within(file), cache_dir=self.cache_dir, revision=self.revision)
        return Path(held) if isinstance(held, str) else None

    def missing_file(self, folder: Path, *, golden: bool) -> str:
        """The first file of the model that a folder lacks, "" if none."""
        needed = [CONFIG, weights_file(self.variant)]
        if not (folder / needed[1]).is_file() and (index := folder / index_file(self.variant)).is_file():
            needed = [CONFIG, *parts_named(index)]
        needed += [golden_file(self.variant)] if golden else []
        return next((file for file in needed if not (folder / file).is_file()), "")

    def download(self, *, golden: bool, again: bool) -> Path:
        """The folder of the model's files, as far as the repository has them, as they are on the hub."""
        weights, index = weights_file(self.variant), index_file(self.variant)
        folder = self.snapshot([CONFIG, weights, index, *([golden_file(self.variant)] if golden else [])], again=again)
        if not (folder / weights).is_file() and (folder / index).is_file():
            self.revision = self.commit_of(folder)
            self.snapshot(parts_named(folder / index), again=again)
        return folder

    def snapshot(self, files: list[str], *, again: bool) -> Path:
        from huggingface_hub import snapshot_download

        def take(again: bool) -> Path:
            root = with_retries(
                lambda: snapshot_download(
                    self.repo,
                    revision=self.revision,
                    allow_patterns=[escape(self.within(file)) for file in files],
                    cache_dir=self.cache_dir,
                    token=self.token,
                    force_download=again,
                ),
                broken_lines=True,
            )
            return Path(root, self.subfolder or "")

        trusted = set() if again else {held.resolve() for file in files if (held := self.cached(file))}
        folder = take(again)
        fresh = [folder / file for file in files if (folder / file).resolve() not in trusted]
        if damaged := [file for file in fresh if is_damaged(file)]:
            for file in damaged:
                drop(file)
            take(again=False)
            for file in damaged:
                if is_damaged(file):
                    drop(file)
                    raise OSError(f"{file.name} arrives damaged: its checksum is not the one that the hub states")
        return folder


def parts_named(index: Path) -> list[str]:
    """The files over which an index spreads the weights; none for what is no index, which reading it will tell."""
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return sorted(name for name in named if isinstance(name, str) and BESIDE.fullmatch(name))
