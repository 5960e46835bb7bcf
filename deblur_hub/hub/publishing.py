"""From a model folder to a hub repository, as often as one likes; and a look whether that could work."""

import shutil
import tempfile
from pathlib import Path

from .. import hub
from ..errors import ModelError
from ..model_card import SHEET
from . import CARD, CONFIG, REPO_ID, golden_file, variants_among, weights_among


def publish(
    folder: Path,
    repo: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    commit_message: str = "",
    tag: str = "",
    token: str | bool | None = None,
) -> str:
    """Uploads a model folder with all its variants, and nothing else that lies in it, in one commit.

    Where the tag holds these weights already nothing is done, and what was edited there since stays.

    Args:
        repo: `owner/name`, which is created if need be and takes the folder's place in the card's example.
        revision, private, create_pr: as `DeblurGenerator.push_to_hub` takes them.
        commit_message: '' for one that names the tag.
        tag: of the commit, such as `step-1000`.

    Returns:
        The address of the commit or pull request.

    Raises:
        ModelError: if the folder holds no whole model, the hub refuses or cannot be reached, or the tag stands for
            another commit.
    """
    names = [path.name for path in sorted(folder.glob("*")) if path.is_file()]
    variants = variants_among(names) or [None]
    for variant in variants:  # strict: what cannot be loaded is not published
        hub.read_model(hub.find(Path(folder), variant=variant), variant)
    weights = [folder / name for variant in variants for name in weights_among(names, variant)]
    tensors = [path for path in weights if path.suffix == ".safetensors"]
    if tag and (found := hub.commit_holding(repo, tag, tensors, token=token)):
        return found
    with tempfile.TemporaryDirectory() as staged:
        goldens = [folder / golden_file(variant) for variant in variants]
        for path in (folder / CONFIG, folder / CARD, folder / SHEET, *goldens, *weights):
            if path.is_file():
                shutil.copy(path, staged)
        return hub.push(
            Path(staged),
            repo,
            revision=revision,
            private=private,
            create_pr=create_pr,
            commit_message=commit_message or f"Upload a deblur-hub model{f' ({tag})' if tag else ''}",
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
