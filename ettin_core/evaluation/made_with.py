"""The code and the libraries that a protocol's records were made with, and what of them is another today."""

from pathlib import Path
from typing import Any

from ettin_core.evaluation.protocol import Protocol
from ettin_core.foundation import source_code
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import read_mapping

FILE = "made_with.json"
PACKAGES = ("data", "evaluation", "foundation", "model", "objectives")
WORDS = (
    "foundation.progress_bars",
    "foundation.errors",
    "foundation.provenance",
    "foundation.source_code",
)  # no score depends on them
NAMED = {  # the modules that a protocol's module finds by name in the registries, which import none of theirs
    "ettin_core.evaluation.heldout": (
        "ettin_core.objectives.kinds.clm",
        "ettin_core.objectives.kinds.mntp",
    )
}
SCORING = "ettin_core.evaluation.scoring"  # through which every protocol asks
LIBRARIES = ("torch", "numpy", "tokenizers")


def made_with(protocol: Protocol) -> dict[str, Any]:
    """The modules behind a protocol with their hashes, and the libraries, as they are now.

    A function of a user's script is not hashed itself: only its version says that it changed.
    """
    module, versions = protocol.measure.__module__, library_versions()
    if not source_code.is_module(module):
        module = SCORING
    return {
        "code": source_code.hashes([module, *NAMED.get(module, ())], PACKAGES, WORDS),
        "libraries": {name: versions[name] for name in LIBRARIES},
    }


def changes(target: Path, protocol: Protocol) -> list[str] | None:
    """What is not as it was when the records in the folder `target` were made; None where they do not say."""
    file = target / FILE
    if not file.exists():
        return None
    before = read_mapping(file, "measure the run again, which writes it anew", code=dict, libraries=dict)
    now = made_with(protocol)
    libraries = before["libraries"]
    updated = [
        f"{name} {libraries[name]} (now {version})"
        for name, version in now["libraries"].items()
        if libraries.get(name, version) != version
    ]
    return source_code.changed(before["code"], now["code"]) + updated
