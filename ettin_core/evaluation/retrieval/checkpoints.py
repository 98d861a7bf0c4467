"""What is embedded: a transformers folder (or hub id), where it comes from, and the hash of its bytes."""

import re
from dataclasses import dataclass
from pathlib import Path

from ettin_core.evaluation.protocol import MeasuredModel
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text, read_mapping
from ettin_core.interop.huggingface import METADATA_FILE, fetch
from ettin_core.interop.weights import WEIGHTS_FILE, weight_files
from ettin_core.records.folders import parse_name


@dataclass(frozen=True)
class CheckpointToEmbed(MeasuredModel):
    """A transformers folder and its origin.

    `weights` is the hash its run recorded, or that of the folder's bytes (`content`); `longest` the longest row, in tokens,
    that its config states, as `width` is of its states and `architecture` its class.
    """

    folder: Path
    content: str
    longest: int | None
    width: int | None
    architecture: str

    @property
    def label(self) -> str:
        """What the checkpoint is called in names of folders."""
        return re.sub(r"[^A-Za-z0-9_.]+", "-", self.run)


def open_checkpoint(source: str) -> CheckpointToEmbed:
    """The checkpoint of a local transformers folder or a hub id.

    The origin of a folder that we exported is the run it names, with member, size and seed from the run's name; of any
    other, the folder's name or id. Raises ValueError, in one line, for what cannot be fetched or has no safetensors.
    """
    folder = fetch(source, None)
    revision = None if Path(source).is_dir() else folder.name  # a hub id's commit
    config = folder / "config.json"
    if not config.is_file():
        raise invalid("models", source, "holds no config.json", "give a run, or a folder written by save_pretrained")
    if not (files := weight_files(folder)):
        raise invalid(
            "models", source, f"holds no weights ({WEIGHTS_FILE})", "save it with save_pretrained, or fetch it again"
        )
    hashed = {path.name: hash_file(path) for path in [config, *files, *folder.glob("tokenizer*.json")]}
    content = hash_text(canonical_json(hashed))
    facts = read_mapping(folder / METADATA_FILE) if (folder / METADATA_FILE).is_file() else {}
    values = read_mapping(config)
    run = str(facts.get("run", source if revision else folder.name))
    named = parse_name(run)
    return CheckpointToEmbed(
        folder=folder,
        run=run,
        member=named.member if named else str(values.get("model_type", "unknown")),
        size=named.size if named else run,
        seed=named.seed if named else 0,
        checkpoint=str(facts.get("checkpoint", revision or "main")),
        weights=str(facts.get("weights", content)),
        content=content,
        longest=values.get("max_position_embeddings"),
        width=values.get("hidden_size"),
        architecture=str((values.get("architectures") or [""])[0]),
    )
