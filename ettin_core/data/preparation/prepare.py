"""Text to tokens: tokenizer, shards, manifest. The same input gives the same bytes, whatever the number of workers.

The work is kept in a hidden folder until it is complete. After a stop or kill at any time the same command continues:
finished parts are kept. Of two processes that prepare one corpus at once the second waits for the first and opens its corpus.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.curation.duplicates import find_duplicates
from ettin_core.data.documents import Source
from ettin_core.data.held_out import merge_tables
from ettin_core.data.preparation.manifest import entry_file, make_manifest
from ettin_core.data.preparation.partitions import RemovalCounts, documents, partition
from ettin_core.data.preparation.plan import Plan, make_plan
from ettin_core.data.preparation.worker import duplicates_file, held_out_file, signatures_file
from ettin_core.data.preparation.worker_pool import ReportProgress, WorkerDied, cores, run_stage
from ettin_core.data.tokenizer import Tokenizer, policy_hash, train
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.folders import locked, remove_folder
from ettin_core.foundation.storage import disk_errors, read_json, sync_folder, write_bytes, write_json
from ettin_core.foundation.strict_config import plain

_SMALL = 2**23  # bytes of input


def silent(stage: str, done: float, total: float, documents: int) -> None:
    """No progress report."""


def prepare(config: DataConfig, root: Path, workers: int | None = None, progress: ReportProgress = silent) -> Corpus:
    """Prepare the corpus under `root`, or open it if it is there, with `workers` processes (None: one per core).

    Raises ValueError for unreadable input or an empty split, and DiskFullError; after the latter, as after a kill, the
    same call continues.
    """
    if workers is not None and workers < 1:
        raise invalid("workers", workers, "is not positive", "give 1 or more, or null for one per core")
    plan = make_plan(config)
    folder = root / plan.corpus_name
    if not (folder / "manifest.json").exists():  # no lock before: shared storage may be read-only
        with locked(root / ".locks" / folder.name, wait=True):
            if not (folder / "manifest.json").exists():
                _build(plan, folder, workers or cores(), progress)
    return Corpus(folder)


def prepared_before(config: DataConfig, root: Path) -> Corpus | None:
    """The prepared corpus under `root`, or None where it is not there; nothing is written."""
    folder = root / make_plan(config).corpus_name
    return Corpus(folder) if (folder / "manifest.json").exists() else None


def _build(plan: Plan, folder: Path, workers: int, progress: ReportProgress) -> None:
    building = folder.with_name(f".{folder.name}.building")
    with disk_errors(folder):
        if not (building / "manifest.json").exists():  # written last
            _fill(plan, building, workers, progress)
        _clear_away(building)
        remove_folder(folder)  # one that somebody took the manifest from
        os.replace(building, folder)
        sync_folder(folder.parent)


def _fill(plan: Plan, building: Path, workers: int, progress: ReportProgress) -> None:
    (building / "parts").mkdir(parents=True, exist_ok=True)
    _remove_unfinished(building)
    try:
        write_json(building / "plan.json", plain(plan))
        tokenizer = _obtain_tokenizer(plan, building / "tokenizer")
        held_out = _gather_held_out(plan, building, workers, progress)
        _find_duplicates(plan, building, workers, progress)
        policy = policy_hash(tokenizer)
        every = range(len(plan.parts))
        left = [number for number in every if not _is_finished(building, plan.parts[number].name, policy)]
        run_stage("tokens", plan, building, every, left, workers, progress)
        write_json(building / "manifest.json", make_manifest(plan, building, tokenizer) | {"held_out": held_out})
    except WorkerDied:
        raise
    except UserError:
        shutil.rmtree(building, ignore_errors=True)  # other input will have another name
        raise
    finally:
        _remove_unfinished(building)


def _clear_away(building: Path) -> None:
    """Remove what only the preparation needed."""
    for folder in ("parts", "duplicates", "held_out"):
        shutil.rmtree(building / folder, ignore_errors=True)
    (building / "plan.json").unlink(missing_ok=True)


def _remove_unfinished(building: Path) -> None:
    """Remove what killed workers left: on a full disk it would take the space that was freed."""
    for file in building.rglob(".*.tmp"):
        file.unlink(missing_ok=True)


def _is_finished(folder: Path, part: str, policy: str) -> bool:
    """Whether a part was written, under this tokenizer and policy: one under another is written again, not mixed in."""
    file = entry_file(folder, part)
    if not file.exists() or (entry := read_json(file))["policy"] != policy:
        return False
    return all((folder / shard["file"]).exists() for split in entry["splits"].values() for shard in split["shards"])


def _obtain_tokenizer(plan: Plan, folder: Path) -> Tokenizer:
    config = plan.config
    if config.tokenizer is not None:
        given = Tokenizer(Path(config.tokenizer))
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (given.folder / name).exists():
                write_bytes(folder / name, (given.folder / name).read_bytes())
    elif any(source.config.token_field for source in plan.sources):
        raise invalid(
            "data.tokenizer", None, "is missing for a column of token ids", "give the tokenizer the ids were made with"
        )
    elif not (folder / "tokenizer_config.json").exists():
        train(_sample(plan, config.tokenizer_sample_mb), config.vocab_size, folder)
    return Tokenizer(folder)


def _sample(plan: Plan, megabytes: float) -> Iterator[str]:
    """Training text for the tokenizer: every source's first documents, an equal share of bytes each."""
    for source in plan.sources:
        left = megabytes * 1e6 / len(plan.sources)
        for text in _training_texts(source):
            yield text[: int(left)]
            left -= len(text)
            if left <= 0:
                break


def _training_texts(source: Source) -> Iterator[str]:
    for part in partition(source):
        if part.split in (None, "train"):
            for split, document in documents(part, source.config, RemovalCounts()):
                if split == "train":
                    yield document.text


def _gather_held_out(plan: Plan, folder: Path, workers: int, progress: ReportProgress) -> dict[str, int]:
    """Write the keys of every held-out document; returns how many there are, and texts in two splits."""
    chosen = [number for number, part in enumerate(plan.parts) if part.split != "train"]
    files = {number: held_out_file(folder, plan.parts[number].name) for number in chosen}
    left = [number for number in chosen if not files[number].exists()]
    if sum(plan.parts[number].size for number in left) < _SMALL:
        workers = 1  # done before processes have started
    if left:
        run_stage("held_out", plan, folder, chosen, left, workers, progress)
    return merge_tables(folder / "held_out", list(files.values()))


class _Tables(Sequence[np.ndarray]):
    """Signatures of many parts, opened one by one: a system limits the number of open files."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: Any) -> Any:
        return np.load(self._files[place], mmap_mode="r")[:, 1:]

    def numbered(self, place: int, reasons: dict[int, str]) -> dict[str, str]:
        """What was found of a part's rows, by the numbers of their documents."""
        numbers = np.load(self._files[place], mmap_mode="r")[:, 0]
        return {str(numbers[row]): reason for row, reason in reasons.items()}


def _find_duplicates(plan: Plan, folder: Path, workers: int, progress: ReportProgress) -> None:
    """Write which documents of each part are duplicates within their source.

    What is held out is compared with what is held out, and goes before train: copies are taken from train.
    """
    finds = [source for source in plan.sources if source.config.curation.removes_duplicates]
    if not finds:
        return
    (folder / "duplicates").mkdir(exist_ok=True)
    names = {source.name for source in finds}
    chosen = [number for number, part in enumerate(plan.parts) if part.source in names]
    left = [number for number in chosen if not signatures_file(folder, plan.parts[number].name, "train").exists()]
    run_stage("signatures", plan, folder, chosen, left, workers, progress)
    for source in finds:
        parts = [plan.parts[number].name for number in chosen if plan.parts[number].source == source.name]
        if all(duplicates_file(folder, part).exists() for part in parts):
            continue
        held_out = [signatures_file(folder, part, "held_out") for part in parts]
        whole = _Tables([*held_out, *(signatures_file(folder, part, "train") for part in parts)])
        duplicates = find_duplicates(_Tables(held_out), source.config.curation)
        duplicates += find_duplicates(whole, source.config.curation, held_out=len(parts))[len(parts) :]
        for place, part in enumerate(parts):
            train = place + len(parts)
            reasons = whole.numbered(place, duplicates[place]) | whole.numbered(train, duplicates[train])
            write_json(duplicates_file(folder, part), reasons)
