"""Training checkpoints as Hugging Face revisions: a folder laid out as the hub's cache, for which no hub is needed.

models--<namespace>--<name>/ holds snapshots/<commit>/, a transformers folder each, and refs/<revision>, a file that names a
commit. `from_pretrained("<namespace>/<name>", revision=..., cache_dir=..., local_files_only=True)` reads that, and so does
every tool built on huggingface_hub. A commit is a hash of what its files hold. A snapshot is renamed into place whole, and a
ref names it only then: whoever reads meanwhile, or after a kill, finds a revision complete or absent.
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
            problem = f"cannot be asked for ({str(error).splitlines()[0].rstrip('.')})"
            raise invalid("repo_id", self.repo_id, problem, "give <namespace>/<name>") from error

    @property
    def folder(self) -> Path:
        """Where its refs and snapshots lie."""
        return self.cache / f"models--{self.repo_id.replace('/', '--')}"

    def revisions(self) -> list[str]:
        """The names of all revisions that can be loaded, `main` among them."""
        names = sorted(path.name for path in self.folder.glob("refs/[!.]*"))
        return [name for name in names if self.commit(name)]

    def commit(self, revision: str) -> str | None:
        """The commit that a revision names (None: there is no such revision, or its snapshot is gone)."""
        ref = self.folder / "refs" / revision
        commit = ref.read_text(encoding="utf-8") if ref.is_file() else None
        return commit if commit and self.snapshot(commit).is_dir() else None

    def snapshot(self, commit: str) -> Path:
        """The transformers folder of a commit."""
        return self.folder / "snapshots" / commit

    def metadata(self, revision: str) -> dict[str, Any]:
        """What ettin.json says of a revision; empty where there is none."""
        file = self.snapshot(self.commit(revision) or "none") / METADATA_FILE
        return dict(read_json(file)) if file.is_file() else {}

    def check_belongs_to(self, run: str) -> None:
        """Refuse (ValueError) to mix a run's revisions with those of another model, or with a download."""
        for revision in self.revisions():
            owner = self.metadata(revision).get("run", "a model that was not exported here")
            if owner != run:
                problem = f"in {self.cache} holds revision {revision} of {owner}"
                raise invalid("repo_id", self.repo_id, problem, "name another repo_id")

    def add(self, revision: str, write: Callable[[Path], object]) -> str:
        """Make a snapshot of the folder that `write` makes at the path it is handed, name it `revision`; the commit.

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
        """Let a revision be this commit."""
        write_text(self.folder / "refs" / revision, commit)


def _commit(folder: Path) -> str:
    """A hash of the names and contents of a folder's files."""
    files = {str(path.relative_to(folder)): hash_file(path) for path in folder.rglob("*") if path.is_file()}
    return hash_text(canonical_json(files))[:COMMIT_LENGTH]
