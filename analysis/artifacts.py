"""The output folder: every file is written in one place, which keeps its hash and who made it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettin_core.foundation.folders import folder_under_construction
from ettin_core.foundation.storage import hash_file, read_mapping

MAKER = "report"
MANIFEST = "manifest.json"


@dataclass
class ArtifactFolder:
    """A folder of generated files and the manifest that says where each came from."""

    folder: Path
    inputs: str
    entries: dict[str, dict[str, str]] = field(default_factory=dict)

    def put(self, name: str, content: str | bytes, maker: Callable[..., Any]) -> None:
        """Write one file and note it for the manifest."""
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)
        self.entries[name] = {
            "sha256": sha256(data),
            "made_by": f"{maker.__module__}.{maker.__name__}",
            "inputs": self.inputs,
        }

    def files_in(self, out: Path) -> list[Path]:
        """Every file and the manifest, by the paths that they have once the folder is in place."""
        return [*(out / name for name in self.entries), out / MANIFEST]


def sha256(content: bytes) -> str:
    """The hash that manifests note of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def artifact_folder(out: Path, inputs: str, alongside: tuple[str, ...] = ()) -> Iterator[ArtifactFolder]:
    """The files of a report, which become the folder `out` when the block succeeds; until then an earlier report stays.

    Raises ValueError, before anything is written, if `out` holds more than `alongside` and no report wrote it.
    """
    with folder_under_construction(out, MAKER, alongside) as building:
        artifacts = ArtifactFolder(building, inputs)
        yield artifacts
        (building / MANIFEST).write_text(json.dumps(artifacts.entries, indent=2, sort_keys=True) + "\n")


def edited(folder: Path) -> list[Path]:
    """The files of a folder that are not as its manifest says they were written; none where there is no manifest."""
    manifest = folder / MANIFEST
    entries = read_mapping(manifest) if manifest.exists() else {}
    return different(folder, {name: entry["sha256"] for name, entry in entries.items()})


def different(folder: Path, hashes: Mapping[str, str]) -> list[Path]:
    """The files of a folder whose contents have another sha256 than the one noted for their name."""
    present = [(folder / name, sha256) for name, sha256 in hashes.items() if (folder / name).is_file()]
    return [path for path, sha256 in present if hash_file(path) != sha256]
