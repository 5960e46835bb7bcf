"""A model's files from a hub repository, all of one commit; from the local cache where the hub cannot be reached."""

import os
from pathlib import Path

from ..errors import ModelError
from .bundled import list_models
from .files import CONFIG, Source, first_line, weights_file


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
            f"{called}: is not in the local cache, and {silence}; connect to the network, or take a bundled model"
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
