"""Exported folders to the Hugging Face hub: a repository, its main branch, and a branch for each other revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ettin_core.foundation.errors import invalid
from ettin_core.interop.revisions import MAIN

REMEDY = "log in with a token that may write (hf auth login, or HF_TOKEN), with the network on (HF_HUB_OFFLINE=0)"


def check_login(repo_id: str) -> None:
    """Raises ValueError, before anything is exported, for a bad id, a missing or rejected token, or a missing network."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    with _in_one_line(repo_id):
        validate_repo_id(repo_id)
        HfApi().whoami()
    if "/" not in repo_id:
        raise invalid("push", repo_id, "names no owner", "give <user or organisation>/<name>")


def push(repo_id: str, folders: dict[str, Path], private: bool, message: str) -> str:
    """Upload transformers folders by revision, `main` last; returns the repository's address.

    A repository that exists keeps its visibility.
    Raises ValueError if the hub rejects a request; uploaded revisions stay, and the same call continues.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _in_one_line(repo_id):
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        for revision in sorted(folders, key=lambda name: name == MAIN):
            if revision != MAIN:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=folders[revision],
                revision=revision,
                commit_message=f"{message}, {revision}",
                ignore_patterns=[".*"],  # the marker of an export, and what an editor leaves
            )
    return str(address)


@contextmanager
def _in_one_line(repo_id: str) -> Iterator[None]:
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise invalid("push", repo_id, f"cannot be done ({reason})", REMEDY) from error
