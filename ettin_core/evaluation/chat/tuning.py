"""One tuning, from its base to a folder that is whole or absent; stopped, it continues from its last checkpoint.

    <out>/                        a transformers folder: the tuned model, or the base with its adapter merged
    <out>/adapter/                with LoRA: the PEFT folder
    <out>/evaluations/            records after tuning; <out>/before/evaluations/ those before it, of the same rows
    <out>.training/               while it trains: checkpoints of the Trainer and what was measured before

The same records go to the base's run, under a protocol that names the tuning: `chat.base`, `chat.sft_lora`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.evaluation.chat import filling, scoring, trainers
from ettin_core.evaluation.chat.model import TunedModel, load_model, write_base
from ettin_core.evaluation.chat.rows import SplitRows
from ettin_core.evaluation.chat.template import EncodedConversation, encode, set_template, template_text
from ettin_core.evaluation.chat.trainers import LORA, Diverged, TuningConfig
from ettin_core.evaluation.protocol import Measured
from ettin_core.evaluation.retrieval.backbone import quiet
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.folders import check_replaceable, folder_under_construction, locked, remove_folder
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import canonical_json, hash_text, read_json, read_mapping, write_json
from ettin_core.foundation.strict_config import plain
from ettin_core.interop.huggingface import FACTS_OF_WEIGHTS, METADATA_FILE
from ettin_core.records.evaluations import SETTINGS, place_of, seal
from ettin_core.records.files import append, read_items, read_measurements
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import AT_MASK, NEXT_TOKEN
from ettin_core.records.schema import Item, Measurement

VERSION = 1
IDENTITY = "tuning.json"
Records = tuple[list[Measurement], list[Item]]


@dataclass(frozen=True)
class TuningKind:
    """What SFT, SFT of encoders and DPO differ in: rows as answers to score, their scores, and the trainer.

    `readout` is how the tuned model is read.
    """

    name: str
    protocol: str
    readout: str
    encode: Callable[[Any, Sequence[Any]], list[EncodedConversation]]
    nats: Callable[[Any, Any, list[EncodedConversation]], list[float]]
    scores: Callable[[str, Sequence[Any], list[EncodedConversation], list[float], list[float] | None], Measured]
    trainer: Callable[[Any, Any, list[Any], TuningConfig, Path], Any]


SFT = TuningKind(
    "sft",
    "chat",
    NEXT_TOKEN.name,
    lambda tokenizer, rows: [encode(tokenizer, row.messages) for row in rows],
    lambda model, tokenizer, encoded: scoring.nats(model, encoded),
    lambda task, rows, encoded, values, before: scoring.conversation_scores(task, rows, encoded, values),
    trainers.sft_trainer,
)
FILLING = replace(SFT, protocol="chat_filled", readout=AT_MASK.name, nats=filling.nats, trainer=filling.filling_trainer)
DPO = TuningKind(
    "dpo",
    "preferences",
    NEXT_TOKEN.name,
    scoring.preference_rows,
    lambda model, tokenizer, encoded: scoring.nats(model, encoded),
    lambda task, rows, encoded, values, before: scoring.preference_scores(task, rows, values, before),
    trainers.dpo_trainer,
)


@dataclass(frozen=True)
class Tuning:
    """A base, rows and settings. `home` is the base's run, `earlier` its checkpoint if that is not the last."""

    kind: TuningKind
    base: TunedModel
    data: SplitRows
    config: TuningConfig
    template: str | None
    out: Path
    device: str
    home: RunFolder | None
    earlier: str | None

    @property
    def stage(self) -> str:
        """The tuning's name in protocols."""
        return f"{self.kind.name}_{self.config.method}"

    @cached_property
    def measuring(self) -> dict[str, Any]:
        """What decides a score beside the model; of the template, the text in effect."""
        rows = hash_text(canonical_json([plain(row) for row in self.data.held_out]))
        template = hash_text(canonical_json(template_text(self.base.tokenizer(), self.template)))
        return {"task": self.data.task, "rows": rows, "max_length": self.config.max_length, "template": template}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the tuned model and its scores."""
        rows = hash_text(canonical_json([plain(row) for row in self.data.train]))
        precision = "fp32" if self.device == "cpu" else "bf16"
        tuning = {"kind": self.kind.name, "precision": precision, **plain(self.config)}
        return {"base": self.base.content, "data": rows, "tuning": tuning, "measured": self.measuring}


@dataclass(frozen=True)
class TuningResult:
    """Where the tuned model is, and its measurements before and after."""

    folder: Path
    adapter: Path | None
    before: list[Measurement]
    after: list[Measurement]


@dataclass(frozen=True)
class _Prepared:
    """Tokenizer and rows that fit: those to train on, those to measure on, and the latter as tokens."""

    tokenizer: Any
    train: list[Any]
    held_out: list[Any]
    encoded: list[EncodedConversation]


def tune(tuning: Tuning, announce: Callable[[str], None]) -> TuningResult:
    """Do what is missing of a tuning. Raises ValueError for an `out` of other settings, BusyError while it is being tuned."""
    work = tuning.out.with_name(f"{tuning.out.name}.training")
    _check_folders(tuning, work)
    if not (tuning.out / IDENTITY).is_file():
        with quiet():
            prepared = _prepare(tuning, announce)
            with locked(work):
                _check_folders(tuning, work)  # another process may have written meanwhile
                write_json(work / IDENTITY, tuning.identity)
                if not (tuning.out / IDENTITY).is_file():
                    try:
                        _train_and_write(tuning, prepared, work)
                    except Diverged:  # it cannot be continued
                        remove_folder(work)
                        raise
                remove_folder(work)
    return _recorded(tuning)


def _check_folders(tuning: Tuning, work: Path) -> None:
    """Raises ValueError where `out` or the work folder holds another tuning, or what no tuning wrote."""
    for folder in (tuning.out, work):
        file = folder / IDENTITY
        if file.is_file() and read_mapping(file) != tuning.identity:
            raise invalid("out", str(folder), "holds a tuning with other settings", "name another folder, or delete it")
    check_replaceable(tuning.out, tuning.kind.name)
    if not (work / IDENTITY).is_file():  # a stopped tuning may have left its lock alone
        files = work.iterdir() if work.is_dir() else [work] if work.exists() else []
        if any(not file.name.startswith(".") for file in files):
            raise invalid("out", str(tuning.out), f"needs {work.name}, which no tuning wrote", "name another folder")


def _prepare(tuning: Tuning, announce: Callable[[str], None]) -> _Prepared:
    """Rows longer than `max_length` are left out of both sides: cut, an answer would be another one."""
    tokenizer = tuning.base.tokenizer()
    set_template(tokenizer, tuning.template, bool(tuning.config.assistant_only))
    train, _ = _fitting(tuning, tokenizer, tuning.data.train)
    held_out, encoded = _fitting(tuning, tokenizer, tuning.data.held_out)
    for name, kept, rows in (("training", train, tuning.data.train), ("held-out", held_out, tuning.data.held_out)):
        if not kept:
            problem = f"is too short for any of the {len(rows)} {name} rows"
            raise invalid("max_length", tuning.config.max_length, problem, "give more, or shorter rows")
        if len(kept) < len(rows):
            left_out = len(rows) - len(kept)
            announce(
                f"{left_out:,} of {len(rows):,} {name} rows are longer than {tuning.config.max_length} tokens: left out"
            )
    return _Prepared(tokenizer, train, held_out, encoded)


def _fitting(tuning: Tuning, tokenizer: Any, rows: list[Any]) -> tuple[list[Any], list[EncodedConversation]]:
    import jinja2

    try:
        encoded = tuning.kind.encode(tokenizer, rows)
    except jinja2.TemplateError as error:
        problem = f"cannot render a row ({' '.join(str(error).split())})"
        name = tuning.template or tokenizer.name_or_path
        raise invalid("template", name, problem, "correct it, or leave such rows out") from error
    share = len(encoded) // len(rows)
    groups = [encoded[place : place + share] for place in range(0, len(encoded), share)]
    fits = [all(len(row.ids) <= tuning.config.max_length for row in group) for group in groups]
    kept = [row for row, fit in zip(rows, fits, strict=True) if fit]
    return kept, [row for group, fit in zip(groups, fits, strict=True) if fit for row in group]


def _train_and_write(tuning: Tuning, prepared: _Prepared, work: Path) -> None:
    model = tuning.base.load().to(tuning.device)
    start = work / "before.json"
    if not start.is_file():
        write_json(start, tuning.kind.nats(model, prepared.tokenizer, prepared.encoded))
    before = [float(value) for value in read_json(start)]
    trainer = tuning.kind.trainer(model, prepared.tokenizer, prepared.train, tuning.config, work)
    trainers.run(trainer, work)
    with folder_under_construction(tuning.out, tuning.kind.name) as building:
        facts = {name: value for name, value in tuning.base.facts.items() if name not in FACTS_OF_WEIGHTS}
        facts |= {"run": tuning.base.checkpoint.run, "checkpoint": tuning.base.checkpoint.checkpoint}
        facts |= {"tuned": [*tuning.base.stages, tuning.stage], "readout": tuning.kind.readout}
        _save(trainer.model, tuning, prepared.tokenizer, facts, building)
        model = load_model(building, tuning.base.fills).to(tuning.device)  # the trainer's computes in bf16 on a GPU
        facts["weights"] = hash_tensors(dict(model.named_parameters()))
        write_json(building / METADATA_FILE, facts)
        write_json(building / IDENTITY, tuning.identity)
        write_json(building / "training.json", trainer.state.log_history)
        after = tuning.kind.nats(model, prepared.tokenizer, prepared.encoded)
        place = Path("evaluations") / f"{tuning.kind.protocol}@{VERSION}"
        of_base = {"base": tuning.base.content} if tuning.base.stages else {}  # a run has many tuned models
        settings = tuning.measuring | of_base | {"weights": tuning.base.weights}
        write_records(building / "before" / place, _records(tuning, prepared, before, None, settings), settings)
        settings = tuning.identity | {"weights": facts["weights"]}
        write_records(building / place, _records(tuning, prepared, after, before, settings), settings)


def _save(model: Any, tuning: Tuning, tokenizer: Any, facts: dict[str, Any], folder: Path) -> None:
    """Write the model that was trained, an adapter also by itself."""
    if tuning.config.method == LORA:
        adapter = folder / "adapter"
        model.save_pretrained(adapter, save_embedding_layers=False)
        tokenizer.save_pretrained(adapter)
        write_base(adapter, tuning.base.checkpoint, facts)
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _records(
    tuning: Tuning, prepared: _Prepared, values: list[float], before: list[float] | None, settings: dict[str, Any]
) -> Records:
    """The records of held-out values; `before` are those that the rewards are counted from."""
    results, items = tuning.kind.scores(tuning.data.task, prepared.held_out, prepared.encoded, values, before)
    shared = {name: value for name, value in settings.items() if name not in ("base", "weights")}
    origin = settings | {"settings": shared, "libraries": library_versions("trl", "peft", "accelerate", "datasets")}
    checkpoint, protocol = tuning.base.checkpoint, tuning.kind.protocol
    rows = [Item(checkpoint.run, protocol, item.task, item.item, item.value, item.details) for item in items]
    return [checkpoint.measurement(protocol, VERSION, result, origin) for result in results], rows


def write_records(folder: Path, records: Records, settings: dict[str, Any]) -> None:
    """Write and seal the folder of a protocol's records."""
    folder.mkdir(parents=True, exist_ok=True)
    append(folder / "measurements.jsonl", records[0])
    append(folder / "items.jsonl", records[1])
    write_json(folder / SETTINGS, settings)
    seal(folder)


def _recorded(tuning: Tuning) -> TuningResult:
    """The measurements of a finished tuning, which are also written to the base's run."""
    place = Path("evaluations") / f"{tuning.kind.protocol}@{VERSION}"
    folders = {".".join(tuning.base.stages) or "base": tuning.out / "before" / place}
    folders[".".join([*tuning.base.stages, tuning.stage])] = tuning.out / place
    if tuning.home is not None:
        with locked(tuning.home.path / "evaluations", wait=True):
            for name, folder in folders.items():
                _copy(folder, tuning.home, f"{tuning.kind.protocol}.{name}", tuning.earlier)
    before, after = (read_measurements(folder / "measurements.jsonl") for folder in folders.values())
    adapter = tuning.out / "adapter"
    return TuningResult(tuning.out, adapter if adapter.is_dir() else None, before, after)


def _copy(folder: Path, home: RunFolder, protocol: str, earlier: str | None) -> None:
    """Write a folder's records to a run, under a protocol's name."""
    settings = read_mapping(folder / SETTINGS)
    rows = [replace(row, protocol=protocol) for row in read_measurements(folder / "measurements.jsonl")]
    items = [replace(item, protocol=protocol) for item in read_items(folder / "items.jsonl")]
    target = place_of(home.evaluation_folder(protocol, VERSION, earlier), settings)
    with folder_under_construction(target) as building:
        write_records(building, (rows, items), settings)
