"""The output folder: every file is written in one place, which keeps its hash and who made it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettin_core.foundation.folders import folder_under_construction

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
            "sha256": hashlib.sha256(data).hexdigest(),
            "made_by": f"{maker.__module__}.{maker.__name__}",
            "inputs": self.inputs,
        }

    def files_in(self, out: Path) -> list[Path]:
        """Every file of the shelf, and the manifest, where they are once the shelf is in place."""
        return [*(out / name for name in self.entries), out / MANIFEST]


@contextmanager
def shelf(out: Path, inputs: str, alongside: tuple[str, ...] = ()) -> Iterator[ArtifactFolder]:
    """A shelf that becomes the folder `out` when the block succeeds; until then an earlier report stays as it is.

    Raises ValueError, before anything is written, for a folder that no report made and that holds more than `alongside`.
    """
    with folder_under_construction(out, MAKER, alongside) as building:
        made = ArtifactFolder(building, inputs)
        yield made
        (building / MANIFEST).write_text(json.dumps(made.entries, indent=2, sort_keys=True) + "\n")
