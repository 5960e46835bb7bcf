"""A model's files from a hub repository, all of one commit; from the local cache where the hub cannot be reached."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import TypeVar

from ..errors import ModelError
from .bundled import list_models
from .files import CONFIG, Source, first_line, golden_file, index_file, weights_file
from .reading import drop, read_index
from .verifying import is_damaged

Result = TypeVar("Result")

OVERLOADED = (408, 429, 500, 502, 503, 504)
PAUSES = (1.0, 2.0, 4.0)  # seconds before each further attempt, where the hub names none
LONGEST_PAUSE = 30  # whoever is told to wait longer than that gets a sentence instead


def with_retries(ask: Callable[[], Result], *, broken_lines: bool = False) -> Result:
    """The result of `ask`, which is called again after a pause if the hub is overloaded, and with `broken_lines` after
    a connection broke, too; other errors pass at once, these after the last attempt."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    for pause in PAUSES:
        try:
            return ask()
        except (HTTPError, LocalEntryNotFoundError) as error:
            # huggingface_hub says of a file that it cannot get that it is not in the cache, and why as the cause
            reason = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
            if isinstance(reason, HfHubHTTPError):
                asked = reason.response.headers.get("Retry-After", "")
                pause = float(asked) if asked.isdecimal() else pause
                if reason.response.status_code not in OVERLOADED or pause > LONGEST_PAUSE:
                    raise
            elif not (broken_lines and isinstance(reason, HTTPError)):
                raise
        time.sleep(pause)
    return ask()


@dataclass
class HubModel:
    """A model's files in a repository, and what the cache holds of them."""

    repo: str
    revision: str | None
    subfolder: str | None
    variant: str | None
    cache_dir: str | None
    token: str | bool | None
    silence: str = ""  # why the hub does not answer, if it does not
    missing: str = CONFIG  # the file that was found to be missing

    def fetch(self, *, local_files_only: bool, force_download: bool, golden: bool) -> Source:
        """Downloads the model's files, and the `golden` tensors if there are any, all from the commit that the revision
        stands for at this moment; where the hub cannot be reached, they are taken from the local cache. A hub that is
        overloaded is asked again, and a file that arrives damaged is fetched again; none stays in the cache."""
        from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

        called = f"{self.repo}@{self.revision}" if self.revision else self.repo
        try:
            commit = "" if local_files_only else self.newest_commit(require=force_download)
            folder = held.parent if (held := self.cached(CONFIG)) else None
            self.missing = self.missing_file(folder, golden=golden) if folder else CONFIG
            if not self.silence and not local_files_only:
                if self.missing or force_download or not folder or self.commit_of(folder) != commit:
                    folder = self.download(golden=golden, again=force_download)
                    self.missing = self.missing_file(folder, golden=False)
            elif self.missing or not folder:
                raise LocalEntryNotFoundError(self.missing)
            if self.missing:
                raise EntryNotFoundError(self.missing)
        except (EntryNotFoundError, HTTPError, OSError, RuntimeError, ValueError) as reason:
            raise ModelError(f"{called}: {self.explained(reason)}") from None
        return Source(called, folder, self.commit_of(folder))

    def explained(self, reason: Exception) -> str:
        """Why the model is not to be had, and what to do."""
        from huggingface_hub import errors

        bundled = f"a bundled model ({', '.join(list_models())})"
        if isinstance(reason, errors.GatedRepoError):
            return "is gated; ask for access on its page and log in with 'hf auth login'"
        if isinstance(reason, errors.RepositoryNotFoundError):
            return "no such repository, or it is private; check the name, or log in with 'hf auth login' or token=..."
        if isinstance(reason, errors.RevisionNotFoundError):
            return "the repository has no such branch, tag or commit; look at its page"
        if isinstance(reason, errors.HFValidationError):
            return f"{first_line(reason)}; check the name"
        if isinstance(reason, errors.LocalEntryNotFoundError) and not reason.__cause__:
            silence = self.silence or "the hub was not asked"
            return f"is not in the local cache, and {silence}; connect to the network, or take {bundled}"
        if isinstance(reason, errors.EntryNotFoundError) and not isinstance(reason, errors.LocalEntryNotFoundError):
            where = f" in {self.subfolder}" if self.subfolder else ""
            return f"has no {self.missing}{where}; it is not a deblur-hub model, or lacks this variant"
        return f"cannot be downloaded ({first_line(reason)}); try again later, or take {bundled}"

    def newest_commit(self, *, require: bool) -> str:
        """The commit that the revision stands for on the hub; "" if it is silent and need not answer. What is asked for
        is the configuration, by which the hub counts downloads."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        url = hf_hub_url(self.repo, CONFIG, subfolder=self.subfolder, revision=self.revision)
        try:
            return with_retries(lambda: get_hf_file_metadata(url, token=self.token)).commit_hash or ""
        except (HTTPError, OSError) as reason:
            if require or (isinstance(reason, HfHubHTTPError) and reason.response.status_code not in OVERLOADED):
                raise
            self.silence = f"the hub cannot be reached ({first_line(reason)})"
            return ""

    def commit_of(self, folder: Path) -> str:
        return (folder if not self.subfolder else folder.parents[len(Path(self.subfolder).parts) - 1]).name

    def within(self, file: str) -> str:
        return f"{self.subfolder}/{file}" if self.subfolder else file

    def cached(self, file: str) -> Path | None:
        """A file of the commit that the revision stood for when it was last downloaded."""
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
            patterns = [escape(self.within(file)) for file in files]
            access = {"revision": self.revision, "cache_dir": self.cache_dir, "token": self.token}
            ask = partial(snapshot_download, self.repo, allow_patterns=patterns, force_download=again, **access)
            return Path(with_retries(ask, broken_lines=True), self.subfolder or "")

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
        return sorted(set(read_index(index.name, index).values()))
    except ModelError:
        return []
