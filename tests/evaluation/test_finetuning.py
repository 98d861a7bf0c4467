"""Fine-tuning: it learns, its ways are what they say, members are given the same, and what is done is done once."""

import json
import signal
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.finetuning.attention_modes import MODES, AttentionMode, by_group, modes_of
from ettin_core.evaluation.finetuning.encoding import Rows, batch_of
from ettin_core.evaluation.finetuning.grid import FinetuningConfig, Trial
from ettin_core.evaluation.finetuning.grid_run import GridRun
from ettin_core.evaluation.finetuning.heads import FineTuned
from ettin_core.evaluation.finetuning.model import BaseModel, of_huggingface, of_run
from ettin_core.evaluation.finetuning.summary import check_equal_trials, summarise, table
from ettin_core.evaluation.finetuning.tasks import task_of
from ettin_core.evaluation.finetuning.trial import Prepared, TrialResult, run_trial
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import read_json
from ettin_core.interop.huggingface import export
from ettin_core.records.folders import RunFolder
from ettin_core.requests.finetune import FinetuneRequest
from ettin_core.training.config import RunConfig
from tests import processes
from tests.evaluation.finetuning import config, member, plant, planted
from tests.runs import tiny_run, train_tiny

pytest.importorskip("sklearn")
DECODER_MODES = [name for name, mode in MODES.items() if mode.member == "causal"]
Trained = dict[str, tuple[RunConfig, RunFolder]]


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of planted evaluation sets."""
    return plant(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="session")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small trained run of both members."""
    root = tmp_path_factory.mktemp("runs")
    runs = {name: tiny_run(corpus, name) for name in ("encoder", "decoder")}
    return {name: (run, train_tiny(run, root, corpus)) for name, run in runs.items()}


def build(
    base: BaseModel,
    mode: str,
    task: str,
    unmasked: tuple[bool, ...] = (False, True),
    seed: int = 0,
    dropout: float = 0.0,
) -> FineTuned:
    """The model that a mode fine-tunes, as it begins."""
    chosen = MODES[mode]
    view = chosen.view(base.view, 4, unmasked)
    return FineTuned(base.model, view, chosen.pooling, task_of(task), seed, dropout).eval()


def some_rows(base: BaseModel, sets: Path, task: str, count: int = 6) -> Rows:
    """The first test rows of a task in one batch."""
    prepared = Prepared.of(planted(sets, task), base.tokenizer, 48)
    return batch_of(prepared.encoded["test"][:count], base.tokenizer.special, torch.device("cpu"))


def do(base: BaseModel, sets: Path, task: str, mode: str, trial: Trial, settings: FinetuningConfig) -> TrialResult:
    """One trial of a fresh model."""
    base.model.load_state_dict(base.tensors)
    prepared = Prepared.of(planted(sets, task), base.tokenizer, 48)
    model = build(base, mode, task, seed=trial.seed, dropout=settings.dropout)
    return run_trial(model, prepared, trial, settings, torch.device("cpu"))


@pytest.mark.parametrize(
    ("direction", "mode", "task", "at_least"),
    [
        ("bidirectional", "bidirectional", "sst2", 0.95),
        ("causal", "causal_last", "sst2", 0.95),
        ("causal", "unmasked_layers", "ewt_upos", 0.95),
        ("causal", "causal_mean", "stsb", 0.8),
    ],
)
def test_a_planted_task_is_learnt(
    corpus: Corpus, sets: Path, tmp_path: Path, direction: str, mode: str, task: str, at_least: float
) -> None:
    result = do(member(direction, corpus, tmp_path), sets, task, mode, Trial(5e-3, 0.0, 16, 5, 0), config())
    assert result.test[0].value > at_least
    assert result.dev[result.best_epoch - 1] == max(result.dev) > at_least
    assert result.losses[-1] < result.losses[0] / 2


def test_the_four_ways_of_a_decoder_differ(corpus: Corpus, sets: Path, tmp_path: Path) -> None:
    base = member("causal", corpus, tmp_path)
    rows = some_rows(base, sets, "sst2")
    with torch.no_grad():
        outputs = {mode: build(base, mode, "sst2")(rows) for mode in DECODER_MODES}
    assert len(outputs) == 4
    for left, right in combinations(outputs, 2):
        assert (outputs[left] - outputs[right]).abs().max() > 1e-3, (left, right)


def test_removing_the_mask_in_no_layer_or_in_all_is_one_of_the_other_ways(
    corpus: Corpus, sets: Path, tmp_path: Path
) -> None:
    base = member("causal", corpus, tmp_path)
    rows = some_rows(base, sets, "sst2")
    with torch.no_grad():
        for pattern, same in (((False, False), "causal_mean"), ((True,), "unmasked")):
            by_layer = build(base, "unmasked_layers", "sst2", pattern)(rows)
            assert torch.equal(by_layer, build(base, same, "sst2")(rows))
    causal, both = "causal", "bidirectional"
    assert by_group(4, (False, True)) == (causal, causal, both, both)
    assert by_group(7, (True, False, True)) == (both,) * 3 + (causal,) * 2 + (both,) * 2
    assert by_group(4, (True, False, False, False, False, False)) == (both, causal, causal, causal)


@pytest.mark.parametrize(("mode", "sees"), [("causal_last", False), ("unmasked", True), ("unmasked_layers", True)])
def test_only_a_way_without_the_mask_sees_what_follows(
    corpus: Corpus, sets: Path, tmp_path: Path, mode: str, sees: bool
) -> None:
    base = member("causal", corpus, tmp_path)
    rows = some_rows(base, sets, "ewt_upos", 1)
    model = build(base, mode, "ewt_upos")
    changed = rows.tokens.clone()
    changed[0, rows.reads[-1]] += 1  # the last word
    with torch.no_grad():
        before, after = model(rows), model(replace(rows, tokens=changed))
    moved = (before != after).any(-1)
    assert moved[-1]
    assert bool(moved[:-1].all()) == bool(moved[:-1].any()) == sees


@pytest.mark.parametrize(
    ("mode", "task"), [("bidirectional", "sst2"), ("bidirectional", "ewt_upos"), ("causal_last", "sst2")]
)
def test_outputs_do_not_depend_on_the_batch(corpus: Corpus, sets: Path, tmp_path: Path, mode: str, task: str) -> None:
    base = member(MODES[mode].member, corpus, tmp_path)
    model = build(base, mode, task)
    prepared = Prepared.of(planted(sets, task), base.tokenizer, 48)
    special, device = base.tokenizer.special, torch.device("cpu")
    together, longest = prepared.encoded["test"][:5], max(prepared.encoded["test"], key=lambda row: len(row.ids))
    with torch.no_grad():
        batched = model(batch_of([*together, longest], special, device))
        alone = torch.cat([model(batch_of([row], special, device)) for row in [*together, longest]])
    torch.testing.assert_close(batched, alone, atol=1e-5, rtol=1e-5)


def test_the_head_is_the_one_of_transformers(corpus: Corpus, sets: Path, tmp_path: Path) -> None:
    """`ModernBertForSequenceClassification` on our export, with the same classifier: the same outputs."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    for task, auto in (("sst2", AutoModelForSequenceClassification), ("ewt_upos", AutoModelForTokenClassification)):
        base = member("bidirectional", corpus, tmp_path)
        folder = tmp_path / f"hf-{task}"
        export(base.model, base.view, corpus.tokenizer.folder, folder, 64, {})
        model = build(base, "bidirectional", task)
        theirs = auto.from_pretrained(
            folder, num_labels=model.classifier.out_features, classifier_pooling="mean"
        ).eval()
        theirs.classifier.load_state_dict(model.classifier.state_dict())
        rows = some_rows(base, sets, task)
        with torch.no_grad():
            logits = theirs(input_ids=rows.tokens, attention_mask=(rows.documents >= 0).long()).logits
            expected = logits if task == "sst2" else logits.flatten(0, 1)[rows.reads]
            torch.testing.assert_close(model(rows), expected, atol=1e-4, rtol=1e-4)


def test_members_are_given_the_same_order_head_and_rows(corpus: Corpus, sets: Path, tmp_path: Path) -> None:
    members = [member(direction, corpus, tmp_path, seed) for seed, direction in ((1, "bidirectional"), (2, "causal"))]
    trial = Trial(1e-3, 0.0, 16, 1, 3)
    modes = ("bidirectional", "causal_mean")
    heads = [build(base, mode, "sst2", seed=3).classifier for base, mode in zip(members, modes, strict=True)]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, build(members[0], "bidirectional", "sst2", seed=4).classifier.weight)
    left, right = (do(base, sets, "sst2", mode, trial, config()) for base, mode in zip(members, modes, strict=True))
    assert left.order == right.order
    assert left.order != do(members[0], sets, "sst2", "bidirectional", replace(trial, seed=4), config()).order


def test_a_trial_is_reproduced_bit_by_bit_with_dropout_too(corpus: Corpus, sets: Path, tmp_path: Path) -> None:
    base, trial = member("causal", corpus, tmp_path), Trial(1e-3, 0.01, 16, 1, 0)
    left, right = (do(base, sets, "sst2", "causal_mean", trial, config(dropout=0.1)) for _ in range(2))
    assert left.losses == right.losses
    assert left.weights.keys() == right.weights.keys()
    assert all(torch.equal(left.weights[name], right.weights[name]) for name in left.weights)
    assert left.losses != do(base, sets, "sst2", "causal_mean", trial, config()).losses


def test_a_trial_that_diverges_is_recorded_with_the_score_of_its_start(
    corpus: Corpus, sets: Path, tmp_path: Path
) -> None:
    base = member("bidirectional", corpus, tmp_path)
    result = do(base, sets, "stsb", "bidirectional", Trial(1e30, 0.0, 16, 2, 0), config(clip_norm=1e30))
    assert (result.diverged, result.best_epoch, len(result.dev)) == (True, 0, 1)
    assert -1 <= result.test[0].value <= 1


def planted_grid(
    base: BaseModel, sets: Path, task: str, mode: str, start: str | None = None, **changes: Any
) -> GridRun:
    """A grid on the planted sets."""
    settings = config(**changes)
    begin = None if start is None else GridRun(base, planted(sets, start), MODES[mode], settings)
    return GridRun(base, planted(sets, task), MODES[mode], settings, begin)


def records(grid_run: GridRun) -> dict[str, dict[str, Any]]:
    """The trials of a cell without their wall clock."""
    trials = {file.stem: read_json(file) for file in sorted((grid_run.folder / "trials").glob("*.json"))}
    return {name: {key: value for key, value in record.items() if key != "seconds"} for name, record in trials.items()}


def test_finished_trials_are_not_repeated_and_an_interrupted_grid_equals_an_undisturbed_one(
    corpus: Corpus, sets: Path, tmp_path: Path
) -> None:
    undisturbed = planted_grid(member("causal", corpus, tmp_path / "a"), sets, "sst2", "causal_last", seeds=(0, 1, 2))
    undisturbed.run()
    interrupted = planted_grid(member("causal", corpus, tmp_path / "b"), sets, "sst2", "causal_last", seeds=(0, 1, 2))

    def interrupt(trial: str, recorded: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.run(interrupt)
    (first,) = (interrupted.folder / "trials").glob("*.json")
    written = first.stat().st_mtime_ns
    assert not (interrupted.folder / "measurements.jsonl").exists()
    were_recorded: list[bool] = []
    interrupted.run(lambda trial, recorded: were_recorded.append(recorded))
    assert were_recorded == [True, False, False]
    assert first.stat().st_mtime_ns == written
    assert records(interrupted) == records(undisturbed)
    assert len(records(interrupted)) == 3
    were_recorded.clear()
    interrupted.run(lambda trial, recorded: were_recorded.append(recorded))
    assert were_recorded == [True] * 3


def test_another_setting_is_another_trial_and_more_of_the_grid_keeps_what_is_there(
    corpus: Corpus, sets: Path, tmp_path: Path
) -> None:
    base = member("bidirectional", corpus, tmp_path)
    were_recorded: list[bool] = []
    for changes in ({"seeds": (0,)}, {"seeds": (0, 1)}, {"seeds": (0,), "warmup_share": 0.5}, {"seeds": (0,)}):
        rows = planted_grid(base, sets, "sst2", "bidirectional", **changes).run(
            lambda trial, old: were_recorded.append(old)
        )
        assert rows[0].provenance["grid"]["seeds"] == list(changes["seeds"])  # type: ignore[call-overload]
    assert were_recorded == [False, True, False, False, True]
    kept = base.folder.measurements()
    assert {row.provenance["trials"] for row in kept} == {2}  # the largest grid, whatever was tried after it
    larger = planted_grid(base, sets, "sst2", "bidirectional", seeds=(0, 1))
    (items,) = [file for file in larger.folder.parent.glob("*/items.jsonl") if '"trials":2' in _seal(file)]
    items.write_bytes(items.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"items.jsonl.* has 39 rows of 40"):
        base.folder.measurements()
    assert larger.run() == kept == base.folder.measurements()


def _seal(file: Path) -> str:
    return "".join((file.parent / "records.json").read_text().split())


def test_a_record_answers_everything(corpus: Corpus, sets: Path, trained: Trained) -> None:
    run, folder = trained["decoder"]
    base = of_run(run, folder, corpus, None, "cpu")
    grid_run = planted_grid(base, sets, "sst2", "causal_mean")
    by_metric = {row.metric: row for row in grid_run.run()}
    main = by_metric["accuracy"]
    assert (main.run, main.member, main.protocol, main.version) == (run.name, "decoder", grid_run.protocol, 1)
    assert grid_run.protocol == "finetune.sst2.causal_mean"
    assert main.checkpoint == folder.summary()["final_checkpoint"]
    assert main.provenance["weights"] == base.weights
    assert main.provenance["parents"] == [base.parent]
    assert main.provenance["data"]["source"] == "cls/sst2.jsonl.gz"
    assert len(main.provenance["data"]["sha256"]) == 64
    assert {"torch", "scikit-learn", "scipy"} <= main.provenance["libraries"].keys()
    assert (main.n, main.provenance["trials"], len(main.provenance["chosen"])) == (40, 2, 2)
    assert main.standard_error is not None
    assert {f"accuracy_{name}" for name in ("dev", "seed_deviation", "grid_median", "grid_worst")} < by_metric.keys()
    assert main in folder.measurements()
    items = folder.items("finetune.sst2.causal_mean")
    assert len(items) == 40
    assert {item.item for item in items} == {example.id for example in grid_run.data.test}


def test_an_earlier_checkpoint_has_its_own_place(corpus: Corpus, sets: Path, trained: Trained) -> None:
    run, folder = trained["encoder"]
    base = of_run(run, folder, corpus, "step0", "cpu")
    rows = planted_grid(base, sets, "sst2", "bidirectional", seeds=(0,)).run()
    assert {row.checkpoint for row in rows} == {"step0"}
    assert rows == [row for row in folder.measurements("step0") if row.protocol.startswith("finetune.")]


def test_from_mnli_the_chain_of_parents_is_stored(corpus: Corpus, sets: Path, tmp_path: Path) -> None:
    base = member("bidirectional", corpus, tmp_path)
    direct = planted_grid(base, sets, "rte", "bidirectional").run()[0]
    chained = planted_grid(base, sets, "rte", "bidirectional", start="mnli")
    after = chained.run()[0]
    assert (direct.protocol, after.protocol) == ("finetune.rte.bidirectional", "finetune.rte.bidirectional.from_mnli")
    first, second = after.provenance["parents"]
    assert first == base.parent == direct.provenance["parents"][0]
    assert chained.start is not None
    tried = records(chained.start)
    assert second["protocol"] == "finetune.mnli.bidirectional@1"
    assert second["dev"] == max(tried[second["trial"]]["dev"]) == max(max(trial["dev"]) for trial in tried.values())
    assert second["weights"] == after.provenance["weights"] != base.weights
    assert (chained.start.folder / "weights" / second["trial"] / "model.safetensors").is_file()
    _, weights = chained.start.best(lambda trial, recorded: None)
    assert any(not torch.equal(weights[name], base.tensors[name]) for name in weights)


def test_a_transformers_folder_is_fine_tuned_as_its_run_is(
    corpus: Corpus, sets: Path, trained: Trained, tmp_path: Path
) -> None:
    for name, mode in (("encoder", "bidirectional"), ("decoder", "causal_last")):
        run, folder = trained[name]
        ours = of_run(run, folder, corpus, None, "cpu")
        out = tmp_path / f"hf-{name}"
        export(ours.model, ours.view, corpus.tokenizer.folder, out, ours.context, {})
        theirs = of_huggingface(str(out), tmp_path / "records", "cpu")
        assert (theirs.member, theirs.view, theirs.context) == (name, ours.view, ours.context)
        (letters,), (same,) = (base.tokenizer.encode(["[CLS] a [MASK] [SEP]"]) for base in (ours, theirs))
        assert letters == same and not set(ours.tokenizer.special.ids) & set(letters)
        native, exported = (planted_grid(base, sets, "rte", mode, seeds=(0,)) for base in (ours, theirs))
        assert native.run()[0].value == exported.run()[0].value
        predictions = [
            [record["predictions"] for record in records(grid_run).values()] for grid_run in (native, exported)
        ]
        assert predictions[0] == predictions[1]
        assert exported.folder.is_relative_to(tmp_path / "records")


def trial_record(rate: float, seed: int, dev: float, test: float) -> dict[str, Any]:
    """A record of two metrics."""
    return {
        "trial": {"learning_rate": rate, "weight_decay": 0.0, "batch_size": 8, "epochs": 1, "seed": seed},
        "metric": "mcc",
        "dev": [0.0, dev],
        "dev_rows": 9,
        "test": {
            "accuracy": {"metric": "accuracy", "value": test + 0.1, "standard_error": 0.05, "n": 7},
            "mcc": {"metric": "mcc", "value": test, "standard_error": test / 10, "n": 7},
        },
    }


def test_summary_worked_out() -> None:
    """The point 1e-3 has the best single dev score, 1e-4 the best median: it is chosen, whatever the test scores say."""
    high = [trial_record(1e-3, seed, dev, test) for seed, dev, test in ((0, 0.9, 0.8), (1, 0.2, 0.7), (2, 0.3, 0.9))]
    low = [trial_record(1e-4, seed, dev, test) for seed, dev, test in ((0, 0.5, 0.4), (1, 0.6, 0.2), (2, 0.7, 0.3))]
    summary = summarise("cola", high + low, 0.0)
    assert summary.point == [1e-4, 0.0, 8, 1]
    by_metric = {result.metric: result for result in summary.results}
    assert list(by_metric)[0] == "mcc"
    assert (by_metric["mcc"].value, by_metric["mcc"].n, by_metric["mcc"].reference) == (0.3, 7, 0.0)
    assert by_metric["mcc"].standard_error == pytest.approx(0.03)
    assert by_metric["mcc_seed_deviation"].value == pytest.approx(0.1)
    assert (by_metric["mcc_dev"].value, by_metric["mcc_dev"].n) == (0.6, 9)
    assert by_metric["mcc_grid_median"].value == pytest.approx(0.55)
    assert by_metric["mcc_grid_worst"].value == 0.2
    assert by_metric["accuracy"].value == pytest.approx(0.4)


def test_unequal_trials_are_not_compared(corpus: Corpus, sets: Path, tmp_path: Path) -> None:
    encoder, decoder = (member(direction, corpus, tmp_path) for direction in ("bidirectional", "causal"))
    rows = planted_grid(encoder, sets, "sst2", "bidirectional").run()
    same = planted_grid(decoder, sets, "sst2", "causal_last").run()
    lines = table([*rows, *same]).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["tiny-bidirectional", "sst2", "bidirectional"],
        ["tiny-causal", "sst2", "causal_last"],
    ]
    more = planted_grid(decoder, sets, "sst2", "causal_last", seeds=(0, 1, 2)).run()
    with pytest.raises(UserError, match="unequal trials of sst2"):
        check_equal_trials([*rows, *more])
    changed = replace(rows[0], provenance=rows[0].provenance | {"data": rows[0].provenance["data"] | {"sha256": "0"}})
    with pytest.raises(UserError, match="sha256"):
        check_equal_trials([changed, *same])


def test_ways_are_defined_for_members_and_tasks() -> None:
    def names(modes: list[AttentionMode]) -> list[str]:
        return [mode.name for mode in modes]

    sst2, upos = task_of("sst2"), task_of("ewt_upos")
    assert names(modes_of(["all"], "causal", sst2)) == ["causal_last", "causal_mean", "unmasked", "unmasked_layers"]
    assert names(modes_of(["all"], "causal", upos)) == ["causal_last", "unmasked", "unmasked_layers"]
    assert names(modes_of(["all"], "bidirectional", upos)) == ["bidirectional"]
    with pytest.raises(UserError, match="way='causal_last' is not defined for a bidirectional member"):
        modes_of(["causal_last"], "bidirectional", sst2)
    with pytest.raises(UserError, match="read without pooling"):
        modes_of(["causal_mean"], "causal", upos)
    with pytest.raises(UserError, match="way='sideways' is not a way"):
        modes_of(["sideways"], "causal", sst2)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seeds": ()}, "finetuning.seeds"),
        ({"seeds": (1, 1)}, "repeats"),
        ({"learning_rates": (0.0,)}, "learning_rates=0.0"),
        ({"batch_sizes": (0,)}, "below 1"),
        ({"train_rows": 0}, "train_rows=0"),
        ({"max_length": 3}, "max_length=3"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
    ],
)
def test_grids_that_make_no_sense_are_errors(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        config(**changes)


def test_requests_that_make_no_sense_are_errors(tmp_path: Path) -> None:
    good: dict[str, Any] = {
        "run": "runs/x",
        "model": None,
        "checkpoint": None,
        "task": "sst2",
        "way": "all",
        "start": None,
    }
    good |= {
        "eval_data": "sets",
        "finetuning": config(),
        "device": "cpu",
        "threads": 1,
        "runs_dir": "",
        "corpora_dir": "",
    }
    assert [task.name for task in FinetuneRequest(**good).tasks] == ["sst2"]
    asked = FinetuneRequest(**good | {"task": "all", "start": "mnli", "eval_data": str(plant(tmp_path))})
    assert [task.name for task in asked.tasks] == ["rte", "stsb"]
    with pytest.raises(UserError, match="task='all' finds none in eval_data=sets"):
        _ = FinetuneRequest(**good | {"task": "all"}).tasks
    for changes, problem in (
        ({"run": None}, "run=None is missing"),
        ({"start": "sst2"}, "start='sst2'"),
        ({"task": ["sst2", "sst2"]}, "twice"),
        ({"task": [3]}, "not a name"),
    ):
        with pytest.raises(UserError, match=problem):
            FinetuneRequest(**good | changes)


def test_the_command_is_killed_and_continues(corpus: Corpus, sets: Path, trained: Trained, tmp_path: Path) -> None:
    """A real process, killed after its first trial; the next one keeps that trial and prints the table."""
    _, folder = trained["encoder"]
    command = ["experiments.finetune", f"run={folder.path}", f"corpora_dir={corpus.folder.parent}"]
    command += [f"eval_data={sets}", "task=ewt_upos", "finetuning=smoke", "finetuning.seeds=[0,1,2,3,4,5]"]
    trials = folder.evaluation_folder("finetune.ewt_upos.bidirectional", 1) / "trials"
    process = processes.start(tmp_path, *command)
    deadline = time.monotonic() + 120
    while not list(trials.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in trials.glob("*.json")}
    assert 1 <= len(before) < 6
    done = processes.run(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert all((trials / name).stat().st_mtime_ns == written for name, written in before.items())
    assert len(list(trials.glob("*.json"))) == 6
    assert done.stdout.splitlines()[1].split()[1:3] == ["ewt_upos", "bidirectional"]
    (records,) = trials.parent.parent.glob(f"{trials.parent.name}+*/measurements.jsonl")
    json.loads(records.read_text().splitlines()[0])
