"""The output folder: every file goes through one door, which remembers its hash and who made it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Shelf:
    """A folder of generated files and the manifest that says where each came from."""

    folder: Path
    inputs: str
    entries: dict[str, dict[str, str]] = field(default_factory=dict)

    def put(self, name: str, content: str | bytes, maker: Callable[..., Any]) -> None:
        """Write one file and note it for the manifest."""
        data = content.encode() if isinstance(content, str) else content
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)
        self.entries[name] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "made_by": f"{maker.__module__}.{maker.__name__}",
            "inputs": self.inputs,
        }

    def close(self) -> list[Path]:
        """Write the manifest; returns every file of the shelf."""
        manifest = self.folder / "manifest.json"
        manifest.write_text(json.dumps(self.entries, indent=2, sort_keys=True) + "\n")
        return [*(self.folder / name for name in self.entries), manifest]
