"""A model folder into a hub repository, in one commit, as often as one likes; and a look whether that could work."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..model_card import HERE, SHEET, merge
from .downloading import with_retries
from .files import CARD, CONFIG, first_line, golden_file, variants_among, weights_among
from .finding import REPO_ID, find
from .reading import read_model
from .verifying import file_digest

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi

ATTEMPTS = 3  # at a commit on top of a branch that moves meanwhile
LOGIN = "log in with 'hf auth login' or set HF_TOKEN"


def publish(folder: Path, repo: str, *, commit_message: str = "", tag: str = "", **options: Any) -> str:
    """Uploads a model folder with all its variants, and nothing else that lies in it, in one commit.

    Where the tag holds these weights already nothing is done, and what was edited there since stays.

    Args:
        repo: `owner/name`, which is created if need be and takes the folder's place in the card's example.
        commit_message: '' for one that names the tag.
        tag: of the commit, such as `step-1000`.
        options: as `push` takes them.

    Returns the address of the commit or pull request. Raises ModelError if the folder holds no whole model, the hub
    refuses or cannot be reached, or the tag stands for another commit.
    """
    names = [path.name for path in sorted(folder.glob("*")) if path.is_file()]
    variants = variants_among(names) or [None]
    for variant in variants:  # strict: what cannot be loaded is not published
        read_model(find(Path(folder), variant=variant), variant)
    weights = [name for variant in variants for name in weights_among(names, variant)]
    tensors = [folder / name for name in weights if name.endswith(".safetensors")]
    if tag and (found := commit_holding(repo, tag, tensors)):
        return found
    wanted = {CONFIG, CARD, SHEET, *map(golden_file, variants), *weights}
    message = commit_message or f"Upload a deblur-hub model{f' ({tag})' if tag else ''}"
    files = [folder / name for name in names if name in wanted]
    return push(files, repo, commit_message=message, tag=tag, **options)


def commit_holding(repo: str, revision: str, weights: list[Path]) -> str:
    """The address of the commit that a branch or tag stands for, if it holds these weights files; else ''."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError

    page = ""
    for path in weights:
        try:
            held = get_hf_file_metadata(address := hf_hub_url(repo, path.name, revision=revision))
        except (HFValidationError, LocalTokenNotFoundError, HTTPError, OSError, ValueError):
            return ""  # no such repository, tag or file, or no way to ask
        if held.etag != file_digest(path, "sha256"):
            return ""
        page = f"{address.partition('/resolve/')[0]}/commit/{held.commit_hash}"
    return page


def push(
    files: Iterable[Path],
    repo: str,
    *,
    commit_message: str,
    tag: str = "",
    token: str | bool | None = None,
    revision: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    keep_card: bool = True,
) -> str:
    """Uploads files in one commit, creating the repository if need be; returns the address as `publish`.

    Files that the repository has already make no commit; the address is then that of its newest. Weights that the
    repository has of the same variant in another form, one file or several, are removed by the commit. A tag that
    stands for another commit stays where it is: people rely on it. With `keep_card` only the generated block of the
    repository's README is renewed. Raises ModelError if the hub refuses or cannot be reached, and nothing is
    half-uploaded; or the tag is taken.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    own = {path.name: path for path in sorted(files)}
    with explained(repo):
        repo = with_retries(lambda: api.create_repo(repo, private=private, exist_ok=True)).repo_id
        if revision and not revision.startswith("refs/"):
            with_retries(lambda: api.create_branch(repo, branch=revision, exist_ok=True))
        card = own.pop(CARD).read_bytes().decode("utf-8").replace(HERE, repo) if CARD in own else ""
        options = {"create_pr": create_pr, "commit_message": commit_message}
        made = committed(api, own, card, repo, revision=revision, keep_card=keep_card, options=options)
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


@contextmanager
def explained(repo: str, what: str = "cannot be published") -> Iterator[None]:
    """Makes one sentence, a ModelError, of what huggingface_hub raises about a repository."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalTokenNotFoundError

    try:
        yield
    except (HFValidationError, LocalTokenNotFoundError) as reason:
        raise ModelError(f"{repo}: {first_line(reason)}; give an 'owner/name' and a token") from None
    except (HTTPError, OSError, ValueError) as reason:
        hint = ""
        status = reason.response.status_code if isinstance(reason, HfHubHTTPError) else 0
        if status == 402:  # a Space that computes, for an account without a subscription
            raise ModelError(
                f"{repo}: the hub runs no such Space for this account ({first_line(reason)}); subscribe there, or name "
                "--hardware that it pays for"
            ) from None
        if status == 403:
            what, hint = "the token may not write there", " and a token that may,"
        login = f"log in with 'hf auth login'{hint} and try again"
        raise ModelError(f"{repo}: {what} ({first_line(reason)}); {login}") from None


def committed(
    api: "HfApi",
    files: Mapping[str, Path | bytes],
    card: str,
    repo: str,
    *,
    keep_card: bool = True,
    folder: str = "",
    repo_type: str = "model",
    revision: str | None = None,
    options: Mapping[str, Any],
) -> "CommitInfo":
    """Makes the commit on top of what was looked at, and looks again where somebody else was faster.

    What the repository holds in `folder` (such as "deblur_hub/") and is not among the files is removed.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    def commit() -> "CommitInfo":
        found = (api.space_info if repo_type == "space" else api.model_info)(repo, revision=revision)
        held = {sibling.rfilename for sibling in found.siblings or ()}
        stale = {name for variant in variants_among(files) for name in weights_among(held, variant)} - files.keys()
        stale |= {name for name in held if folder and name.startswith(folder)} - files.keys()
        text = renewed_card(api, repo, found.sha, card, repo_type) if card and keep_card and CARD in held else card
        added = [CommitOperationAdd(name, path) for name, path in files.items()]
        added += [CommitOperationAdd(CARD, text.encode())] if text else []
        removed = [CommitOperationDelete(name) for name in sorted(stale)]
        place = {"revision": revision, "parent_commit": found.sha, "repo_type": repo_type}
        made: CommitInfo = api.create_commit(repo, [*added, *removed], **{**options, **place})
        return made

    for _ in range(ATTEMPTS - 1):
        try:
            return with_retries(commit)
        except HfHubHTTPError as reason:
            if reason.response.status_code != 412:
                raise
    return with_retries(commit)


def renewed_card(api: "HfApi", repo: str, commit: str | None, fresh: str, repo_type: str) -> str:
    """The README of a commit with what is generated from a fresh one; '' to leave one alone that cannot be read."""
    with tempfile.TemporaryDirectory() as cache:
        path = Path(api.hf_hub_download(repo, CARD, revision=commit, repo_type=repo_type, cache_dir=cache))
        try:
            return merge(path.read_bytes().decode("utf-8"), fresh, source=f"{repo}: {CARD}")
        except UnicodeDecodeError:
            return ""


def require_access(repo: str) -> str:
    """Sees to it that something could be published as `repo`, without publishing anything.

    Returns '' if all is well, or a sentence where the hub cannot be asked now, which may pass; raises ModelError if the
    name is none, there is no token, or the hub refuses it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

    if not REPO_ID.fullmatch(repo):
        raise ModelError(f"'{repo}' is not a hub repository; name it as 'owner/name'")
    try:
        account = HfApi().whoami()
    except LocalTokenNotFoundError:
        raise ModelError(f"{repo}: there is no token of the hub to publish with; {LOGIN}") from None
    except (HTTPError, OSError) as reason:
        if isinstance(reason, HfHubHTTPError) and reason.response.status_code in (401, 403):
            raise ModelError(f"{repo}: the hub refuses the token that is set; {LOGIN}") from None
        return (
            f"{repo}: the hub cannot be reached now ({first_line(reason)}); the model will be kept and can be "
            "published later"
        )
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ModelError(f"{repo}: the token that is set may read and not write; make one that may, and {LOGIN}")
    return ""
