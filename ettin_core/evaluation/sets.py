"""Where probes get their items: the world a corpus was written by, and files of real evaluation sets."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.importers.world import world_of
from ettin_core.data.world import World
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import hash_file
from ettin_core.foundation.structures import build

BLIMP = "probing/blimp.jsonl.gz"
WINOGENDER = "bias/winogender.jsonl.gz"


def corpus_world(corpus: Corpus) -> World | None:
    """The world a corpus was written by, if it was."""
    if corpus.manifest["kind"] != "world":
        return None
    return world_of(build(DataConfig, corpus.manifest["config"]))


def check_folder(folder: str) -> None:
    """Refuse (ValueError) a folder that lacks one of the sets."""
    if not Path(folder).is_dir():
        raise invalid("suite.eval_data", folder, "is not a folder", "give the folder of evaluation sets")
    for name in (BLIMP, WINOGENDER):
        if not (Path(folder) / name).is_file():
            raise invalid("suite.eval_data", folder, f"lacks {name}", "add it, or leave eval_data null")


def set_hashes(folder: str | None) -> dict[str, str] | None:
    """sha256 of each set, for the record of what was measured."""
    return None if folder is None else {name: hash_file(Path(folder) / name) for name in (BLIMP, WINOGENDER)}


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of a gzipped JSON-lines evaluation set."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise invalid("suite.eval_data", str(file), f"is damaged ({error})", "fetch the file again") from error
