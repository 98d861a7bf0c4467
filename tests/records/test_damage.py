"""Damaged run folders and study files: every reader gives the right result or one line that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.load import load
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.protocol import SuiteConfig
from ettin_core.evaluation.suite import evaluate, settings_of
from ettin_core.foundation.errors import UserError
from ettin_core.records.folders import RunFolder, run_folders
from experiments.requests import open_run
from experiments.status import state
from tests.runs import tiny_run, train_tiny

SUITE = SuiteConfig(300, 4, 1, None, 4096, protocols=("heldout_clm", "agreement"))
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/<one measured run> and study.json."""
    root = tmp_path_factory.mktemp("whole")
    run = tiny_run(corpus, "decoder")
    folder = train_tiny(run, root / "runs", corpus)
    evaluate(run, folder, corpus, SUITE)
    certificate = {"pair": "p", "left": run.name, "right": run.name, "verdict": "matched", "differences": []}
    cell = {"name": "a", "run": run.name, "axes": {"seed": 0}, "parent": None}
    study = {"name": "demo", "claim": "", "runs": [run.name], "cells": [cell], "analysis": {}}
    study["certificates"] = [certificate | {"evidence": {}}]
    (root / "study.json").write_text(json.dumps(study))
    (folder.certificate_file).write_text(json.dumps(study["certificates"][0]))
    return root


def read_everything(root: Path, study: str | None = None) -> None:
    """What commands read of a run and a study."""
    (folder,) = [RunFolder(path.parent) for path in root.glob("runs/[!.]*/config.yaml")]
    open_run(str(folder.path))
    folder.summary()
    folder.training(), folder.timing()
    load(root / "runs", None if study is None else root / study)


def setting(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    """Change fields of a mapping; None takes a field away."""

    def change(value: dict[str, Any]) -> dict[str, Any]:
        return {key: item for key, item in (value | changes).items() if item != "ABSENT"}

    return change


def document(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change a JSON file as a whole."""

    def damage(file: Path) -> None:
        file.write_text(json.dumps(change(json.loads(file.read_text()))))

    return damage


def line(change: Callable[[dict[str, Any]], Any], number: int = -1) -> Damage:
    """Change a row of a JSON-lines file."""

    def damage(file: Path) -> None:
        rows = file.read_text().splitlines()
        rows[number] = json.dumps(change(json.loads(rows[number])))
        file.write_text("\n".join(rows) + "\n")

    return damage


def text(content: str | bytes) -> Damage:
    """Write other bytes."""
    return lambda file: file.write_bytes(content.encode() if isinstance(content, str) else content) and None


NAN, INFINITY = float("nan"), float("inf")
SYNTAX = {
    "list": text("[1, 2]\n"),
    "number": text("7\n"),
    "string": text('"text"\n'),
    "null": text("null\n"),
    "deep": text("[" * 200_000 + "]" * 200_000 + "\n"),
    "nul bytes": text(b"\0" * 64 + b"\n"),
    "binary": text(b"\xff\xfe\x80abc\n"),
    "not closed": text('{"a": \n'),
    "long number": text('{"a": ' + "9" * 5000 + "}\n"),
}
ONLY_JSON = {"empty": text("")}


def rows_damages() -> dict[str, Damage]:
    """What may be wrong in any file of rows."""

    def twice(file: Path) -> None:
        rows = file.read_text().splitlines(keepends=True)
        file.write_text("".join([*rows, rows[-1]]))

    def unknown(value: Any) -> Damage:
        return line(setting(schema=value))

    return SYNTAX | {
        "twice": twice,
        "schema true": unknown(True),
        "schema 2": unknown(2),
        "kind": line(setting(kind="metric")),
        "kind of another file": line(setting(kind="item")),
        "unknown field": line(setting(more=1)),
        "null row": line(lambda row: None),
        "list row": line(lambda row: [row], 0),
    }


def values(field: str, *wrong: Any) -> dict[str, Damage]:
    """A field with wrong values."""
    return {f"{field}={value!r}": line(setting(**{field: value})) for value in wrong}


NUMBER = (NAN, INFINITY, -INFINITY, "1.5", True, [1.0], {"a": 1}, 10**400)
COUNT = (NAN, INFINITY, "3", True, -1, 1.5, None)
SHORTER: dict[str, Damage] = {
    "a row less": lambda file: file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1])) and None,
    "halved": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]) and None,
    "empty file": text(""),
    "missing": Path.unlink,
}
TRAINING = SHORTER | rows_damages() | values("loss", *NUMBER) | values("step", *COUNT) | values("tokens", *COUNT, 1)
TRAINING |= values("flops", *NUMBER, -1.0, None, 1) | values("loss_tokens", *COUNT, 1) | values("skipped", *COUNT)
TRAINING |= values("gradient_norm", *NUMBER, -1.0) | values("learning_rate", *NUMBER, -1e-3, None)
TRAINING |= values("source_losses", {"world": NAN}, {"world": "a"}, [1], 3) | values(
    "attention_logits", [NAN], {}, ["a"]
)
TRAINING |= values("phase", 3, None, True) | values("data_hash", 3, None)
TIMING = {key: value for key, value in rows_damages().items() if key != "twice"}  # a resumed run logs a step again
TIMING |= values("seconds", *NUMBER, -1, None, 0.0) | values("tokens_per_second", *NUMBER, -1, None)
TIMING |= values("mfu", *NUMBER, -0.1) | values("step", *COUNT)
MEASURED = (
    SHORTER
    | rows_damages()
    | values("value", *NUMBER)
    | values("n", *COUNT)
    | values("seed", NAN, "3", True, 1.5, None)
)
MEASURED |= values("standard_error", *NUMBER, -0.5) | values("reference", *NUMBER) | values("run", "another", None, 3)
MEASURED |= values("task", 3, None, ["a"]) | values("metric", 3, None) | values("higher_is_better", 1, "yes", None)
MEASURED |= values("provenance", [], "a", {"a": NAN}) | values("version", *COUNT) | values("checkpoint", 3, None)
ITEMS = (
    SHORTER | rows_damages() | {"kind of another file": line(setting(kind="timing"))} | values("value", *NUMBER, None)
)
ITEMS |= values("run", "another", 3) | values("item", 3, None) | values("details", [], {"a": {"b": [NAN]}}, None)
DOCUMENT = SYNTAX | ONLY_JSON
STUDY = DOCUMENT | {
    **{f"without {name}": document(setting(**{name: "ABSENT"})) for name in ("name", "runs", "certificates")},
    **{f"{name}={wrong!r}": document(setting(**{name: wrong}))
       for name in ("runs", "cells", "certificates") for wrong in (3, "a", {"a": 1}, [3], [None], [[]], True)},
    **{f"analysis={wrong!r}": document(setting(analysis=wrong)) for wrong in (3, "a", [1])},
    **{f"name={wrong!r}": document(setting(name=wrong)) for wrong in (3, None, [])},
    "a cell without its run": document(setting(cells=[{"name": "a", "axes": {}}])),
    "a cell whose axes are a list": document(setting(cells=[{"name": "a", "run": "b", "axes": []}])),
    "a certificate without a verdict": document(setting(certificates=[{"pair": "p"}])),
}  # fmt: skip
CONFIG = SYNTAX | ONLY_JSON | {
    "unknown key": text("a: 1\n"),
    "tab": text("a:\n\t- b\n"),
    "no date": text("a: 2024-13-45\n"),
    "tag": text("a: !!python/object:os.system {}\n"),
}  # fmt: skip
CERTIFICATE = DOCUMENT | {
    f"without {name}": document(setting(**{name: "ABSENT"})) for name in ("pair", "verdict", "differences", "evidence")
}
SUMMARY = DOCUMENT | {
    f"{name}={wrong!r:.20}": document(setting(**{name: wrong}))
    for name, wrong in [
        ("tokens", NAN), ("tokens", "3"), ("tokens", True), ("seconds", NAN), ("seconds", "a"), ("flops", INFINITY),
        ("member", 3), ("final_checkpoint", 7), ("size", []), ("seed", "a"), ("run", 5),
    ]
}  # fmt: skip
FILES: dict[str, dict[str, Damage]] = {
    "metrics.jsonl": TRAINING,
    "timing.jsonl": TIMING,
    "evaluations/agreement@1/measurements.jsonl": MEASURED,
    "evaluations/agreement@1/items.jsonl": ITEMS,
    "study.json": STUDY,
    "COMPLETE": SUMMARY,
    "config.yaml": CONFIG,
    "certificate.json": CERTIFICATE,
}


@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_one_line_that_names_the_file(name: str, whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root, ignore=shutil.ignore_patterns("checkpoints"))
    study = name if name == "study.json" else None
    read_everything(root, study)
    file = root / name if name == "study.json" else next(root.glob("runs/*/config.yaml")).parent / name
    before, wrong = file.read_bytes(), {}
    for damage, apply in FILES[name].items():
        apply(file)
        try:
            read_everything(root, study)
            wrong[damage] = "silent"
        except UserError as error:
            if str(file) not in str(error) or "\n" in str(error):
                wrong[damage] = f"unclear: {error}"
        except Exception as error:
            wrong[damage] = f"traceback: {error!r:.200}"
        file.write_bytes(before)
    assert not wrong, f"{len(wrong)} of {len(FILES[name])}: " + "\n".join(
        f"{key}: {told}" for key, told in wrong.items()
    )


def test_a_run_is_known_by_what_its_folder_holds(whole: Path, tmp_path: Path, corpus: Corpus) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    (folder,) = run_folders(root / "runs")
    name = folder.name
    folder.path.rename(root / "runs" / "my best run")
    (renamed,) = run_folders(root / "runs")
    expected = load(whole / "runs", whole / "study.json")
    found = load(root / "runs", root / "study.json")
    assert renamed.name == name and found.measurements.equals(expected.measurements) and not found.missing
    assert len(evaluate(open_run(str(renamed.path))[1], renamed, corpus, SUITE)) == len(renamed.measurements())
    shutil.copytree(renamed.path, root / "runs" / "copy of it")
    with pytest.raises(ValueError, match=f"runs='{name}' is in .*; move one of them elsewhere"):
        load(root / "runs", root / "study.json")


def test_what_a_study_measured_and_is_gone_is_named(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root, ignore=shutil.ignore_patterns("checkpoints"))
    (folder,) = run_folders(root / "runs")
    keys = settings_of(SUITE, open_run(str(folder.path))[1].read_as)
    document(setting(suite={folder.name: keys}))(root / "study.json")
    assert load(root / "runs", root / "study.json").missing == []
    shutil.rmtree(folder.path / "evaluations" / "agreement@1")
    assert load(root / "runs", root / "study.json").missing == [f"{folder.name}: agreement@1"]
    shutil.rmtree(folder.path / "evaluations")
    assert load(root / "runs").missing == [f"{folder.name}: any measurement"]


def test_a_damaged_last_record_is_not_complete_and_is_written_anew(whole: Path, tmp_path: Path, corpus: Corpus) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    (folder,) = run_folders(root / "runs")
    summary = folder.summary()
    (folder.path / "COMPLETE").write_text("{")
    assert not folder.complete and folder.damage and state(folder).startswith("damaged: file=")
    train_tiny(tiny_run(corpus, "decoder"), root / "runs", corpus)
    assert folder.complete and folder.summary()["final_weights"] == summary["final_weights"]
