"""From a model folder to a hub repository, as often as one likes; and a look whether that could work."""

import shutil
import tempfile
from pathlib import Path

from . import hub
from .errors import ModelError
from .generator import DeblurGenerator
from .hub import CARD, CONFIG, GOLDEN, REPO_ID, weights_file

HERE = "path/to/this/folder"  # what a card's example names until the model has an address


def publish(
    folder: Path, repo: str, *, private: bool | None = None, tag: str = "", token: str | bool | None = None
) -> str:
    """Uploads a model folder, and nothing else that lies in it, in one commit.

    Where the tag holds these weights already nothing is done, and what was edited there since stays.

    Args:
        repo: `owner/name`, which is created if need be and takes the folder's place in the card's example.
        private: of a repository that is created; None leaves it to the owner's settings.
        tag: of the commit, such as `step-1000`.

    Returns:
        The address of the commit.

    Raises:
        ModelError: if the folder holds no whole model, the hub refuses or cannot be reached, or the tag stands for
            another commit.
    """
    DeblurGenerator.from_pretrained(Path(folder), device="cpu")  # strict: what cannot be loaded is not published
    if tag and (found := hub.commit_holding(repo, tag, folder / weights_file(None), token=token)):
        return found
    with tempfile.TemporaryDirectory() as staged:
        for name in (CONFIG, weights_file(None), GOLDEN, CARD):
            if (folder / name).is_file():
                shutil.copy(folder / name, staged)
        card = Path(staged) / CARD
        if card.is_file():
            card.write_text(card.read_text(encoding="utf-8").replace(HERE, repo), encoding="utf-8")
        return hub.push(
            Path(staged),
            repo,
            revision=None,
            private=private,
            create_pr=False,
            commit_message=f"Upload a deblur-hub model ({tag})" if tag else "Upload a deblur-hub model",
            token=token,
            tag=tag,
        )


def require_access(repo: str, *, token: str | bool | None = None) -> str:
    """Sees to it that something could be published as `repo`, without publishing anything.

    Returns:
        '' if all is well, or a sentence where the hub cannot be asked now, which may pass.

    Raises:
        ModelError: if the name is none, there is no token, or the hub refuses it.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

    if not REPO_ID.fullmatch(repo):
        raise ModelError(f"'{repo}' is not a hub repository; name it as 'owner/name'")
    login = "log in with 'hf auth login' or set HF_TOKEN"
    if token is False or not (token or get_token()):
        raise ModelError(f"{repo}: there is no token of the hub to publish with; {login}")
    try:
        account = HfApi(token=token).whoami()
    except LocalTokenNotFoundError:
        raise ModelError(f"{repo}: there is no token of the hub to publish with; {login}") from None
    except (HTTPError, OSError) as reason:
        if isinstance(reason, HfHubHTTPError) and reason.response.status_code in (401, 403):
            raise ModelError(f"{repo}: the hub refuses the token that is set; {login}") from None
        return (
            f"{repo}: the hub cannot be reached now ({hub.first_line(reason)}); the model will be kept and can be "
            "published later"
        )
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ModelError(f"{repo}: the token that is set may read and not write; make one that may, and {login}")
    return ""
