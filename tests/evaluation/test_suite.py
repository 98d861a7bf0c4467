"""Measuring a run: what is written, what is left alone, what is an error."""

import hashlib
import multiprocessing
import os
import shutil
import signal
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import evaluated_model, suite
from ettin_core.evaluation.protocol import Protocol
from ettin_core.evaluation.registry import PROTOCOLS
from ettin_core.evaluation.suite import applicable, evaluate, open_model, settings_of, stale
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.storage import read_json_lines
from ettin_core.records import evaluations
from ettin_core.records import protocols as words
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import KNOWN
from ettin_core.training.config import RunConfig
from tests.evaluation.small_sets import crows_rows, stereoset_rows, write_rows, write_sets
from tests.kills import killed_at_every_change
from tests.runs import MEMBERS, edit, tiny_run, train_tiny

VERSIONS = {protocol.name: protocol.version for protocol in PROTOCOLS}
SUITE = SuiteConfig(400, 4, 1, None, 4096)
FILES = {"items.jsonl", "made_with.json", "measurements.jsonl", "settings.json", "records.json"}
Trained = dict[str, tuple[RunConfig, RunFolder]]


@pytest.fixture(scope="session")
def evaluated(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A trained and measured run of every member."""
    root = tmp_path_factory.mktemp("evaluated")
    runs = {}
    for member in MEMBERS:
        run = tiny_run(corpus, member)
        runs[member] = run, train_tiny(run, root, corpus)
        evaluate(*runs[member], corpus, SUITE)
    return runs


@pytest.fixture
def copied(evaluated: Trained, tmp_path: Path) -> Callable[..., tuple[RunConfig, RunFolder]]:
    """Copies of the runs that a test may change, with or without their evaluations."""

    def copy(member: str, measured: bool = True) -> tuple[RunConfig, RunFolder]:
        run, folder = evaluated[member]
        ignore = None if measured else shutil.ignore_patterns("evaluations")
        shutil.copytree(folder.path, tmp_path / run.name, ignore=ignore)
        return run, RunFolder(tmp_path / run.name)

    return copy


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the protocols measured from now on."""
    names: list[str] = []

    def counting(protocol: Protocol) -> Protocol:
        def measure(*arguments: Any) -> Any:
            names.append(protocol.name)
            return protocol.measure(*arguments)

        return replace(protocol, measure=measure)

    monkeypatch.setattr(suite, "PROTOCOLS", tuple(counting(protocol) for protocol in PROTOCOLS))
    return names


def names_for(member: str) -> list[str]:
    """The protocols that a member is asked where there are no evaluation sets."""
    return [protocol.name for protocol in applicable(KNOWN["clm" if member == "decoder" else "mlm"], SUITE)]


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a folder by its content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("member", MEMBERS)
def test_every_protocol_that_applies_is_written(member: str, evaluated: Trained) -> None:
    folder = evaluated[member][1]
    written = {
        path.name: {file.name for file in path.iterdir()} for path in (folder.path / "evaluations").glob("[!.]*")
    }
    assert written == {f"{name}@{VERSIONS[name]}": FILES for name in names_for(member)}


def test_shared_protocols_ask_every_member_the_same(evaluated: Trained) -> None:
    shared = set(names_for("encoder")) & set(names_for("decoder"))
    assert {"facts.left_to_right", "minimal_pairs.left_to_right"} <= shared
    for name in shared:
        asked = [
            [(item.task, item.item, item.details.get("group")) for item in folder.items(name)]
            for _, folder in evaluated.values()
        ]
        assert asked[0] == asked[1] == asked[2] and asked[0]


def test_masked_members_are_scored_on_equally_many_tokens(evaluated: Trained) -> None:
    counts = [
        [(item.item, item.details["tokens"]) for item in evaluated[member][1].items("heldout_mlm")]
        for member in ("encoder", "mntp")
    ]
    assert counts[0] == counts[1] and counts[0]


@pytest.mark.parametrize("member", MEMBERS)
def test_measurements_say_where_they_come_from(member: str, corpus: Corpus, evaluated: Trained) -> None:
    run, folder = evaluated[member]
    summary, weights = folder.summary(), open_model(run, folder, corpus, None, "cpu")[2]
    measurements = folder.measurements()
    assert {row.protocol for row in measurements} == set(names_for(member))
    for row in measurements:
        assert (row.run, row.member, row.size, row.seed) == (run.name, member, "tiny", run.seeds.initialisation)
        assert row.checkpoint == summary["final_checkpoint"]
        assert row.provenance["weights"] == weights
        assert row.provenance["fingerprint"] == corpus.fingerprint
        assert row.provenance["libraries"]["torch"] and row.provenance["libraries"]["numpy"]
        assert row.provenance["settings"]["items"] == SUITE.items
        assert row.value is None or np.isfinite(row.value)


@pytest.mark.parametrize("member", MEMBERS)
def test_accuracy_is_the_mean_of_its_items(member: str, evaluated: Trained) -> None:
    folder = evaluated[member][1]
    checked = 0
    for row in folder.measurements():
        if row.metric != "accuracy" or row.protocol == "heldout_mlm":
            continue
        values = defaultdict(list)
        for item in folder.items(row.protocol):
            values[item.task].append(item.value)
            values[f"{item.task}/{item.details['group']}"].append(item.value)
        assert row.n == len(values[row.task])
        assert row.value == pytest.approx(np.mean(values[row.task]))
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize(("member", "protocol"), [("decoder", "heldout_clm"), ("encoder", "heldout_mlm")])
def test_loss_and_its_error_follow_from_the_items(member: str, protocol: str, evaluated: Trained) -> None:
    folder = evaluated[member][1]
    (loss,) = [row for row in folder.measurements() if (row.protocol, row.metric) == (protocol, "loss")]
    items = folder.items(protocol)
    values = [item.value for item in items]
    assert loss.value == pytest.approx(np.mean(values))
    assert loss.standard_error == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5)
    weights = [item.details["tokens"] for item in items]
    assert loss.n == sum(weights)
    assert loss.value == pytest.approx(np.average([item.details["loss"] for item in items], weights=weights))


@pytest.mark.parametrize("changed", [{}, {"batch_tokens": 64}])
def test_measuring_again_measures_nothing(
    changed: dict[str, int], corpus: Corpus, copied: Callable, measured: list[str]
) -> None:
    run, folder = copied("encoder")
    before = hashes(folder.path)
    again = evaluate(run, folder, corpus, replace(SUITE, **changed))  # type: ignore[arg-type]
    assert measured == []
    assert hashes(folder.path) == before
    assert again == folder.measurements()


@pytest.mark.parametrize("changed", [{"items": 5}, {"heldout_tokens": 401}])
def test_other_settings_are_measured_again(
    changed: dict[str, int], corpus: Corpus, copied: Callable, measured: list[str]
) -> None:
    run, folder = copied("decoder")
    rows = evaluate(run, folder, corpus, replace(SUITE, **changed))  # type: ignore[arg-type]
    assert measured == names_for("decoder")
    assert all(row.provenance["settings"][key] == value for row in rows for key, value in changed.items())
    assert len({(row.protocol, row.task, row.metric) for row in rows}) == len(rows)  # replaced, not appended


def test_progress_names_the_protocols(corpus: Corpus, copied: Callable) -> None:
    names: list[str] = []
    evaluate(*copied("encoder"), corpus, SUITE, progress=names.append)
    assert names == names_for("encoder")


def test_measuring_twice_gives_the_same_records(corpus: Corpus, evaluated: Trained, copied: Callable) -> None:
    run, folder = copied("encoder", measured=False)
    evaluate(run, folder, corpus, SUITE)
    assert hashes(folder.path / "evaluations") == hashes(evaluated["encoder"][1].path / "evaluations")


@pytest.mark.parametrize("place", ["measuring", "writing"])
def test_an_interrupted_protocol_leaves_no_trace(
    place: str, corpus: Corpus, copied: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = copied("encoder", measured=False)
    third = names_for("encoder")[2]

    def stop(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "measuring":
            protocols = tuple(replace(item, measure=stop) if item.name == third else item for item in PROTOCOLS)
            patch.setattr(suite, "PROTOCOLS", protocols)
        else:
            write = suite.write_json
            patch.setattr(suite, "write_json", lambda path, value: (stop if third in str(path) else write)(path, value))
        before = hashes(folder.path)
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, folder, corpus, SUITE)
    after = hashes(folder.path)
    done = [f"{name}@{VERSIONS[name]}" for name in names_for("encoder")[:2]]
    assert sorted(path.name for path in (folder.path / "evaluations").glob("[!.]*")) == sorted(done)
    assert {name: value for name, value in after.items() if not name.startswith("evaluations")} == before
    assert any(name.startswith("checkpoints") for name in before)
    evaluate(run, folder, corpus, SUITE)
    assert {key: value for key, value in hashes(folder.path).items() if key in after} == after  # only what was missing
    assert {row.protocol for row in folder.measurements()} == set(names_for("encoder"))


def test_an_earlier_checkpoint_is_measured_beside_the_last(corpus: Corpus, copied: Callable) -> None:
    run, folder = copied("decoder")
    before = hashes(folder.path)
    rows = evaluate(run, folder, corpus, SUITE, checkpoint="step12")
    assert {row.checkpoint for row in rows} == {"step12"}
    assert {key: value for key, value in hashes(folder.path).items() if key in before} == before
    assert rows[0].provenance["weights"] != folder.measurements()[0].provenance["weights"]


def test_a_checkpoint_is_opened_as_its_phase_trained_it(corpus: Corpus, evaluated: Trained) -> None:
    run, folder = evaluated["decoder"]
    early, name, _ = open_model(run, folder, corpus, "step12", "cpu")
    assert (name, early.context, early.view) == ("step12", 48, run.phases[0].attention("causal"))
    last, name, _ = open_model(run, folder, corpus, None, "cpu")
    assert (name, last.context, last.view) == (
        folder.summary()["final_checkpoint"],
        80,
        run.phases[1].attention("causal"),
    )
    assert early.view != last.view
    assert not last.model.training


def test_a_phase_is_known_by_its_whole_prefix(
    corpus: Corpus, evaluated: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = evaluated["decoder"]
    monkeypatch.setattr(evaluated_model, "load_weights", lambda *arguments: "weights")  # they are another run's
    prefixes = dict(zip(run.recipe.phases, ("d", "decay"), strict=True))
    phases = {name: replace(phase, prefix=prefixes[name]) for name, phase in run.recipe.phases.items()}
    renamed = replace(run, recipe=replace(run.recipe, phases=phases))
    assert open_model(renamed, folder, corpus, "decay5", "cpu")[0].view == renamed.phases[1].attention("causal")


def test_an_unknown_checkpoint_is_an_error_with_the_known_ones(corpus: Corpus, evaluated: Trained) -> None:
    run, folder = evaluated["encoder"]
    known = sorted(path.name for path in folder.checkpoints.iterdir())
    assert "step12" in known
    with pytest.raises(ValueError, match="checkpoint='step99' is not a checkpoint") as caught:
        evaluate(run, folder, corpus, SUITE, checkpoint="step99")
    assert ", ".join(known) in str(caught.value)


def test_another_corpus_is_an_error(corpus: Corpus, evaluated: Trained) -> None:
    run, folder = evaluated["encoder"]
    with pytest.raises(ValueError, match="is not the one the run was trained on"):
        evaluate(replace(run, fingerprint="0" * 64), folder, corpus, SUITE)


def test_a_damaged_checkpoint_is_an_error(corpus: Corpus, copied: Callable) -> None:
    run, folder = copied("encoder", measured=False)
    file = folder.checkpoints / folder.summary()["final_checkpoint"] / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="model.safetensors' is damaged"):
        evaluate(run, folder, corpus, SUITE)
    assert not (folder.path / "evaluations").exists()


def test_a_run_that_has_not_ended_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    folder = train_tiny(run, tmp_path, corpus, stop_after=5)
    with pytest.raises(ValueError, match="is not complete"):
        evaluate(run, folder, corpus, SUITE)


def test_records_are_json_lines_of_the_schema(evaluated: Trained) -> None:
    folder = evaluated["decoder"][1]
    files = list((folder.path / "evaluations").glob("*/*.jsonl"))
    assert len(files) == 2 * len(names_for("decoder"))
    for path in files:
        kind = "measurement" if path.name == "measurements.jsonl" else "item"
        rows = read_json_lines(path)
        assert rows and all(row["kind"] == kind and row["protocol"] == path.parent.name.split("@")[0] for row in rows)


def test_the_example_of_a_protocol_is_recorded_from_a_script(corpus: Corpus, copied: Callable) -> None:
    run, folder = copied("decoder", measured=False)
    page = (Path(__file__).resolve().parents[2] / "docs" / "extend" / "protocol.md").read_text()
    script: dict[str, Any] = {"__name__": "__console__"}
    exec(page.split("```python\n")[1].split("```")[0], script)
    [row] = evaluate(run, folder, corpus, SUITE, protocols=[script["PROTOCOL"]])
    assert (row.protocol, row.metric, row.n) == ("sentences", "loss", 2)
    assert stale(folder, None, [script["PROTOCOL"]]) == {}


def test_protocol_names_are_distinct_have_words_and_kinds_are_known() -> None:
    assert len({protocol.name for protocol in PROTOCOLS}) == len(PROTOCOLS)
    reports_own = {"training", "minimal_pairs.own_scoring", "facts.own_scoring"}
    assert set(words.PROTOCOLS) == {protocol.name for protocol in PROTOCOLS} | reports_own
    assert {kind for protocol in PROTOCOLS for kind in protocol.kinds} == {"causal", "masked", "ahead"}


def test_a_kill_at_any_change_of_the_disk_leaves_the_old_records_or_the_new(
    corpus: Corpus, copied: Callable[..., tuple[RunConfig, RunFolder]], code: Path
) -> None:
    """Records are measured again by other code, in the place of the old ones."""
    run, folder = copied("decoder")
    chosen = [protocol for protocol in PROTOCOLS if protocol.name == "agreement"]
    target = folder.evaluation_folder("agreement", VERSIONS["agreement"])
    edit(code, "evaluation.bias.agreement", "OTHER = 1")
    made_with = {"old": (target / "made_with.json").read_text()}
    before = folder.path.with_name("before")
    shutil.copytree(folder.path, before)
    seen = set()

    def measure() -> None:
        evaluate(run, folder, corpus, SUITE, device="cpu", protocols=chosen, remeasure=True)

    def check(number: int) -> None:
        evaluations.check(target)
        seen.add("old" if (target / "made_with.json").read_text() == made_with["old"] else "new")
        measure()  # what is left behind is in nobody's way
        shutil.rmtree(folder.path)
        shutil.copytree(before, folder.path)

    assert killed_at_every_change(measure, check) > 6
    assert seen == {"old", "new"}


@pytest.mark.parametrize("member", ["encoder", "decoder"])
def test_a_kill_leaves_checkpoints_alone_and_the_rest_is_measured_later(
    member: str, corpus: Corpus, evaluated: Trained, copied: Callable
) -> None:
    run, folder = copied(member, measured=False)
    before = hashes(folder.path)
    third = names_for(member)[2]

    def dying() -> None:
        def die(*arguments: Any) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

        suite.PROTOCOLS = tuple(replace(item, measure=die) if item.name == third else item for item in PROTOCOLS)
        evaluate(run, folder, corpus, SUITE)

    process = multiprocessing.get_context("fork").Process(target=dying)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    after = hashes(folder.path)
    assert {name: value for name, value in after.items() if name in before} == before
    assert sorted({name.split("/")[1] for name in after if name.endswith("measurements.jsonl")}) == sorted(
        f"{name}@{VERSIONS[name]}" for name in names_for(member)[:2]
    )
    evaluate(run, folder, corpus, SUITE)
    assert hashes(folder.path / "evaluations") == hashes(evaluated[member][1].path / "evaluations")


def test_every_record_says_where_it_comes_from(corpus: Corpus, copied: Callable, tmp_path: Path) -> None:
    run, folder = copied("encoder", measured=False)
    sets = write_sets(tmp_path / "sets")
    plain = crows_rows()
    write_rows(sets / "bias/crows_pairs.jsonl.gz", [plain[0], plain[1] | {"sent_more": " Her  son\twas kind."}])
    chosen = ("crows_pairs.sentence", "pronouns", "heldout_mlm")
    rows = evaluate(run, folder, corpus, replace(SUITE, eval_data=str(sets), protocols=chosen))
    read = {
        "crows_pairs.sentence": ["bias/crows_pairs.jsonl.gz"],
        "pronouns": ["bias/winogender.jsonl.gz"],
        "heldout_mlm": [],
    }
    assert {row.protocol for row in rows} == set(chosen)
    weights = open_model(run, folder, corpus, None, "cpu")[2]
    for row in rows:
        origin = row.provenance
        assert origin["weights"] == weights and row.checkpoint == "decay5"
        assert origin["fingerprint"] == corpus.fingerprint
        expected = {name: hashlib.sha256((sets / name).read_bytes()).hexdigest() for name in read[row.protocol]}
        assert (origin["settings"]["eval_data"] or {}) == expected
        assert origin["uneven_rows"] == {name: int("crows" in name) for name in read[row.protocol]}
        assert {"python", "torch", "numpy", "tokenizers"} <= set(origin["libraries"])
        assert row.version == VERSIONS[row.protocol] and row.n > 0
        assert row.standard_error is not None or row.n < 4 or row.value is None


def test_other_sets_are_measured_again_and_others_left_alone(
    corpus: Corpus, copied: Callable, measured: list[str], tmp_path: Path
) -> None:
    run, folder = copied("decoder", measured=False)
    sets = write_sets(tmp_path / "sets")
    chosen = replace(SUITE, eval_data=str(sets), protocols=("stereoset", "winobias"))
    evaluate(run, folder, corpus, chosen)
    write_rows(sets / "bias/stereoset_intrasentence.jsonl.gz", stereoset_rows()[:1])
    measured.clear()
    evaluate(run, folder, corpus, replace(chosen, protocols=("winobias", "stereoset", "pronouns")))
    assert measured == ["pronouns", "stereoset"]


def test_a_damaged_set_is_an_error_before_anything_is_measured(
    corpus: Corpus, copied: Callable, measured: list[str], tmp_path: Path
) -> None:
    run, folder = copied("decoder", measured=False)
    sets = write_sets(tmp_path / "sets")
    (sets / "bias/stereoset_intrasentence.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"stereoset_intrasentence\.jsonl\.gz:1' is cut short or damaged"):
        evaluate(run, folder, corpus, replace(SUITE, eval_data=str(sets)))
    assert measured == []


def test_a_smaller_evaluation_leaves_a_larger_one_and_each_is_read_by_its_suite(
    corpus: Corpus, copied: Callable, measured: list[str]
) -> None:
    run, folder = copied("decoder")
    before, smaller = hashes(folder.path), replace(SUITE, items=2, protocols=("facts.left_to_right", "agreement"))
    rows = [row for row in evaluate(run, folder, corpus, smaller) if row.protocol in smaller.asked]
    assert measured == ["facts.left_to_right", "agreement"]
    assert {key: value for key, value in hashes(folder.path).items() if key in before} == before
    assert {row.provenance["settings"]["items"] for row in rows} == {2}
    assert {row.provenance["settings"]["items"] for row in folder.measurements()} == {SUITE.items}  # the larger
    of_smaller = replace(folder, suite=settings_of(smaller, run.read_as))
    assert len(of_smaller.items("facts.left_to_right")) < len(folder.items("facts.left_to_right"))
    evaluate(run, folder, corpus, smaller)
    evaluate(run, folder, corpus, SUITE)
    assert len(measured) == 2


@pytest.mark.parametrize("damage", ["missing", "empty", "halved", "a row less"])
def test_records_that_are_not_whole_are_named_and_measured_again(
    damage: str, corpus: Corpus, copied: Callable, measured: list[str], capsys: pytest.CaptureFixture
) -> None:
    run, folder = copied("decoder")
    file = folder.evaluation_folder("agreement", 1) / "items.jsonl"
    before, content = hashes(folder.path), file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        rows = content.splitlines(keepends=True)
        file.write_bytes({"empty": b"", "halved": content[: len(content) // 2]}.get(damage, b"".join(rows[:-1])))
    with pytest.raises(ValueError, match="records='.*agreement@1/items.jsonl' (is missing|has \\d+ rows of \\d+)"):
        folder.measurements()
    evaluate(run, folder, corpus, SUITE)
    changed = {name for name, value in hashes(folder.path).items() if value != before[name]}
    assert measured == ["agreement"] and changed <= {"evaluations/agreement@1/made_with.json"}  # `measured` is code
    assert str(file) in capsys.readouterr().err
