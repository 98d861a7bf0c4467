"""Training checkpoints as Hugging Face revisions: a folder laid out as the hub's cache, for which no hub is needed.

models--<namespace>--<name>/ holds snapshots/<commit>/, a transformers folder each, and refs/<revision>, a file that names a
commit. `from_pretrained("<namespace>/<name>", revision=..., cache_dir=..., local_files_only=True)` reads that, and so does
every tool built on huggingface_hub. A commit is a hash of the contents of its files. A snapshot is renamed into place whole,
and a ref names it afterwards. So a revision is complete or absent at any time, also after a kill.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.folders import remove_folder
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text, read_json, sync_folder, write_text
from ettin_core.interop.huggingface import METADATA_FILE

MAIN = "main"  # what from_pretrained takes when no revision is named
COMMIT_LENGTH = 40  # hexadecimal digits; huggingface_hub takes nothing else for a commit


@dataclass(frozen=True)
class Repository:
    """The revisions of the model `repo_id` (<namespace>/<name>) in the cache folder `cache`."""

    cache: Path
    repo_id: str

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            problem = f"is not a valid repository id ({str(error).splitlines()[0].rstrip('.')})"
            raise invalid("repo_id", self.repo_id, problem, "give <namespace>/<name>") from error

    @property
    def folder(self) -> Path:
        """The folder of its refs and snapshots."""
        return self.cache / f"models--{self.repo_id.replace('/', '--')}"

    def revisions(self) -> list[str]:
        """The names of all revisions that can be loaded, `main` among them."""
        names = sorted(path.name for path in self.folder.glob("refs/[!.]*"))
        return [name for name in names if self.commit(name)]

    def commit(self, revision: str) -> str | None:
        """The commit that a revision names (None: the revision or its snapshot is missing)."""
        ref = self.folder / "refs" / revision
        commit = ref.read_text(encoding="utf-8") if ref.is_file() else None
        return commit if commit and self.snapshot(commit).is_dir() else None

    def snapshot(self, commit: str) -> Path:
        """The transformers folder of a commit."""
        return self.folder / "snapshots" / commit

    def metadata(self, revision: str) -> dict[str, Any]:
        """The ettin.json of a revision; empty where there is none."""
        file = self.snapshot(self.commit(revision) or "none") / METADATA_FILE
        return dict(read_json(file)) if file.is_file() else {}

    def check_belongs_to(self, run: str) -> None:
        """Raises ValueError if the repository holds revisions of another model, or a download."""
        for revision in self.revisions():
            owner = self.metadata(revision).get("run", "a model that was not exported here")
            if owner != run:
                problem = f"in {self.cache} holds revision {revision} of {owner}"
                raise invalid("repo_id", self.repo_id, problem, "name another repo_id")

    def add(self, revision: str, write: Callable[[Path], object]) -> str:
        """Add the folder that `write` writes to the path it is given, as `revision`; returns the commit.

        One process at a time may add.
        """
        building = self.folder / ".building"
        remove_folder(building)
        write(building)
        commit = _commit(building)
        snapshot = self.snapshot(commit)
        if snapshot.is_dir() and _commit(snapshot) == commit:  # another revision may name it: leave it in place
            remove_folder(building)
        else:
            remove_folder(snapshot)
            snapshot.parent.mkdir(exist_ok=True)
            os.replace(building, snapshot)
            sync_folder(snapshot.parent)
        self.name(revision, commit)
        return commit

    def name(self, revision: str, commit: str) -> None:
        """Point a revision at a commit."""
        write_text(self.folder / "refs" / revision, commit)


def _commit(folder: Path) -> str:
    """A hash of the names and contents of a folder's files."""
    files = {str(path.relative_to(folder)): hash_file(path) for path in folder.rglob("*") if path.is_file()}
    return hash_text(canonical_json(files))[:COMMIT_LENGTH]
