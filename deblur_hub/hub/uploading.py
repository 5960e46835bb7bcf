"""A model folder into a hub repository, in one commit."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..model_card import HERE, merge
from .files import CARD, first_line, variants_among, weights_among
from .retries import with_retries
from .verifying import file_digest

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

ATTEMPTS = 3  # at a commit on top of a branch that moves meanwhile


def commit_holding(repo: str, revision: str, weights: list[Path], *, token: str | bool | None) -> str:
    """The address of the commit that a branch or tag stands for, if it holds these weights files; else ''."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError

    page = ""
    for path in weights:
        try:
            held = get_hf_file_metadata(address := hf_hub_url(repo, path.name, revision=revision), token=token)
        except (HFValidationError, LocalTokenNotFoundError, HTTPError, OSError, ValueError):
            return ""  # no such repository, tag or file, or no way to ask
        if held.etag != file_digest(path, "sha256"):
            return ""
        page = f"{address.partition('/resolve/')[0]}/commit/{held.commit_hash}"
    return page


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
    card: str | None = None,
) -> str:
    """Uploads a model folder in one commit, creating the repository if need be; returns the commit's address.

    Files that the repository has already make no commit; the address is then that of its newest. Weights that the
    repository has of the same variant in another form, one file or several, are removed by the commit. The README's
    generated block is renewed, and what people wrote around it stays. A tag that stands for another commit stays where
    it is: people rely on it.

    Args:
        card: a README that replaces whatever is there; None renews what is there by the folder's own.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        ModelError: if the hub refuses or cannot be reached, and nothing is half-uploaded; or the tag is taken.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalTokenNotFoundError

    api = HfApi(token=token)
    try:
        repo = with_retries(lambda: api.create_repo(repo, private=private, exist_ok=True)).repo_id
        if revision and not revision.startswith("refs/"):
            with_retries(lambda: api.create_branch(repo, branch=revision, exist_ok=True))
        made = committed(
            api, folder, repo, revision=revision, create_pr=create_pr, commit_message=commit_message, card=card
        )
        if tag:
            with_retries(lambda: api.create_tag(repo, tag=tag, revision=made.oid, exist_ok=True))
            tags = with_retries(lambda: api.list_repo_refs(repo)).tags
            (held,) = (found.target_commit for found in tags if found.name == tag)
            if held != made.oid:
                raise ModelError(
                    f"{repo}: the model is published ({made}), but the tag '{tag}' stands for the earlier commit "
                    f"{held[:10]}; name another tag, or remove that one on the repository's page"
                )
        return made.pr_url or str(made)
    except (HFValidationError, LocalTokenNotFoundError) as reason:
        raise ModelError(f"{repo}: {first_line(reason)}; give an 'owner/name' and a token") from None
    except (HTTPError, OSError, ValueError) as reason:
        if isinstance(reason, HfHubHTTPError) and reason.response.status_code == 403:
            raise ModelError(
                f"{repo}: the token may not write there ({first_line(reason)}); log in with 'hf auth login' and a "
                "token that may, and try again"
            ) from None
        raise ModelError(
            f"{repo}: cannot be published ({first_line(reason)}); log in with 'hf auth login' and try again"
        ) from None


def committed(
    api: "HfApi", folder: Path, repo: str, *, revision: str | None, card: str | None, **options: Any
) -> "CommitInfo":
    """Makes the commit on top of what was looked at, and looks again where somebody else was faster."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != CARD}
    own = card
    if own is None:
        own = (folder / CARD).read_bytes().decode("utf-8") if (folder / CARD).is_file() else ""

    def commit() -> "CommitInfo":
        found = api.model_info(repo, revision=revision)
        held = {sibling.rfilename for sibling in found.siblings or ()}
        stale = {name for variant in variants_among(files) for name in weights_among(held, variant)} - files.keys()
        text = own.replace(HERE, repo)
        if text and card is None and CARD in held:
            text = renewed_card(api, repo, found.sha, text)
        additions = [CommitOperationAdd(name, path) for name, path in files.items()]
        if text:
            additions.append(CommitOperationAdd(CARD, text.encode()))
        made: CommitInfo = api.create_commit(
            repo,
            [*additions, *(CommitOperationDelete(name) for name in sorted(stale))],
            revision=revision,
            parent_commit=found.sha,
            **options,
        )
        return made

    for _ in range(ATTEMPTS - 1):
        try:
            return with_retries(commit)
        except HfHubHTTPError as reason:
            if reason.response.status_code != 412:
                raise
    return with_retries(commit)


def renewed_card(api: "HfApi", repo: str, commit: str | None, fresh: str) -> str:
    """The README of a commit with what is generated from a fresh one; '' to leave one alone that cannot be read."""
    with tempfile.TemporaryDirectory() as cache:
        path = Path(api.hf_hub_download(repo, CARD, revision=commit, cache_dir=cache))
        try:
            return merge(path.read_bytes().decode("utf-8"), fresh, source=f"{repo}: {CARD}")
        except UnicodeDecodeError:
            return ""
