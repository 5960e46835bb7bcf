"""A model folder into a hub repository, in one commit."""

import hashlib
from pathlib import Path

from ..errors import ModelError
from .files import first_line


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
