"""How a model is read is declared by its objective: by the suite, from an export, in the harness, and in reports."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.estimates import UNREADABLE, hole
from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, pack
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.heldout import held_out as documents_of
from ettin_core.evaluation.pretrained import open_pretrained
from ettin_core.evaluation.scoring import left_to_right, segment
from ettin_core.evaluation.suite import applicable, evaluate, open_model
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.interop.huggingface import METADATA_FILE
from ettin_core.interop.reading import readout_of
from ettin_core.objectives.config import Component, ObjectiveConfig
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Masking, Objective, Vocabulary
from ettin_core.records.folders import RunFolder
from ettin_core.records.readout import AT_MASK, BEFORE_MASK, NEXT_TOKEN, readout_named
from ettin_core.studies.evaluate_run import evaluate_run
from ettin_core.studies.run_jobs import choosing
from ettin_core.training.config import RunConfig
from experiments.export import export_run
from tests.evaluation.small_sets import write_sets
from tests.evaluation.test_estimators import answer
from tests.runs import DIRECTION_OF, targets_of, tiny_run, train_tiny

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extend" / "objective.md").read_text()
ARMS = {"skip": ("causal", "skip"), "causal-mlm": ("causal", "mlm"), "silent": ("causal", "silent")}
Trained = dict[str, tuple[RunConfig, RunFolder]]


def skip_of_the_docs() -> Objective:
    """The example of docs/extend/objective.md."""
    [source] = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "OBJECTIVE =" in block]
    module: dict[str, Any] = {"np": np, "Objective": Objective}
    exec(source, module)
    return module["OBJECTIVE"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """A folder with the corpora and runs of this module."""
    return tmp_path_factory.mktemp("readout")


@pytest.fixture(scope="module")
def trained(root: Path, corpus: Corpus) -> Iterator[Trained]:
    """Arms whose names do not say how they are read, with two objectives that a user added."""
    skip = skip_of_the_docs()
    objectives = {"skip": skip, "silent": replace(skip, name="silent", readout="none")}
    with pytest.MonkeyPatch.context() as patch:
        for name, objective in objectives.items():
            patch.setitem(OBJECTIVES, name, objective)
        runs = {
            name: replace(
                tiny_run(corpus, "decoder"), member=name, direction=direction, objective=ObjectiveConfig(objective)
            )
            for name, (direction, objective) in ARMS.items()
        }
        yield {name: (run, train_tiny(run, root / "runs", corpus)) for name, run in runs.items()}


@pytest.fixture(scope="module")
def suite(root: Path) -> SuiteConfig:
    """All protocols over small sets."""
    return SuiteConfig(400, 4, 5, str(write_sets(root / "sets")), 8192)


@pytest.fixture(scope="module")
def exports(trained: Trained, root: Path, corpus: Corpus) -> dict[str, Path]:
    """The transformers folder of each arm."""
    corpora = corpus.folder.parent
    return {name: export_run(folder.path, root / f"hf-{name}", corpora) for name, (_, folder) in trained.items()}


def opened(trained: Trained, name: str, corpus: Corpus) -> EvaluatedModel:
    """The model of an arm's run."""
    return open_model(*trained[name], corpus, None, "cpu")[0]


@pytest.mark.parametrize("name", sorted({*OBJECTIVES, "skip"}))
def test_every_kind_declares_what_it_makes(name: str, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "skip", skip_of_the_docs())
    monkeypatch.setitem(DIRECTION_OF, "skip", "causal")
    readout = readout_named(OBJECTIVES[name].readout)
    assert readout is not None
    documents = [ids for _, ids in zip(range(8), corpus.documents("validation", limit=8), strict=False)]
    batch: Batch = pack(documents, np.arange(8), corpus.tokenizer.special.bos, corpus.tokenizer.special.pad)
    vocabulary = Vocabulary.of(corpus.tokenizer)
    targets = targets_of(name, batch, vocabulary, Masking(0.3, 1.0, 0.0), 7)
    predicted = targets.scored_positions + readout.ahead
    assert len(predicted) > 50 and np.array_equal(batch.tokens.flat[predicted], targets.labels)
    assert np.array_equal(batch.document_ids.flat[predicted], batch.document_ids.flat[targets.scored_positions])
    hidden = targets.inputs.flat[predicted] == corpus.tokenizer.special.mask
    assert hidden.all() if readout.masked else np.array_equal(targets.inputs, batch.tokens)


def test_a_schedule_is_read_as_its_last_part_of_the_run_s_direction() -> None:
    mlm, mntp, clm = Component("mlm", "bidirectional"), Component("mntp", "bidirectional"), Component("clm", "causal")
    for name in ("sequence", "mixture", "alternation"):
        config = ObjectiveConfig(name, parts=(mlm, clm, mntp))
        assert (config.readout("bidirectional"), config.readout("causal")) == ("mntp", "clm")
    assert ObjectiveConfig("sequence", parts=(clm, Component("mlm", "causal"))).readout("causal") == "mlm"


def test_an_objective_of_two_tokens_ahead_is_measured_as_it_was_trained(
    trained: Trained, exports: dict[str, Path], corpus: Corpus, suite: SuiteConfig
) -> None:
    run, folder = trained["skip"]
    rows = evaluate(run, folder, corpus, suite)
    names = {row.protocol for row in rows}
    assert {"heldout_ahead", "minimal_pairs.left_to_right", "winobias", "stereoset"} <= names
    assert not any("mlm" in name or "clm" in name or "pseudo" in name or "published" in name for name in names)
    assert {row.provenance["readout"] for row in rows} == {"ahead2"} == {folder.summary()["readout"]}
    model = opened(trained, "skip", corpus)
    losses = []
    for ids in map(np.ndarray.tolist, documents_of(corpus, suite)):
        for begin in range(0, len(ids) - 2, model.context - 2):
            row = ids[begin : begin + model.context]
            losses += [-answer(model, row[: place - 1], place - 2, row[place]) for place in range(2, len(row))]
    (loss,) = [row for row in rows if (row.protocol, row.metric) == ("heldout_ahead", "loss")]
    assert (loss.n, loss.value) == (len(losses), pytest.approx(np.mean(losses), abs=1e-4))
    text, bos = segment(corpus.tokenizer, "The nurse was late."), corpus.tokenizer.special.bos
    row = (bos, *text.ids)
    by_hand = sum(answer(model, row[: place - 1], place - 2, row[place]) for place in range(2, len(row)))
    assert left_to_right(model, [text]) == pytest.approx([by_hand], abs=1e-4)
    exported = open_pretrained(str(exports["skip"]), device="cpu")
    assert exported.reading.name == "ahead2"
    pair = ("The nurse was", " late. The keys were old. " * 6)  # longer than a window
    assert exported.log_probability([pair])[0] == model.log_probability([pair])[0]
    with pytest.raises(ValueError, match="continuation='The' is nothing that a model read 2 tokens ahead predicts"):
        model.log_probability([("", "The")])


def test_a_causal_model_that_fills_masks_is_measured_alike_from_run_and_export(
    trained: Trained, exports: dict[str, Path], corpus: Corpus, suite: SuiteConfig
) -> None:
    models = opened(trained, "causal-mlm", corpus), open_pretrained(str(exports["causal-mlm"]), device="cpu")
    assert [model.reading for model in models] == [AT_MASK, AT_MASK]
    assert json.loads((exports["causal-mlm"] / "config.json").read_text())["architectures"][0].endswith("ForCausalLM")
    for protocol in applicable(AT_MASK, suite, corpus=False):
        (ours, items), (theirs, others) = (protocol.measure(model, None, suite) for model in models)
        assert ours == theirs and items == others, protocol.name
    run_loss, export_loss = (choosing(trained["causal-mlm"][0]).measure(model, corpus, suite)[0] for model in models)
    assert run_loss[0].value == pytest.approx(export_loss[0].value, abs=1e-6)
    vectors = [model.embed(["The nurse was late."]) for model in models]
    assert np.array_equal(*vectors)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"readout": "mntp", "objective": "clm"}, BEFORE_MASK),
        ({"objective": "mlm"}, AT_MASK),
        ({"objective": "mixture"}, NEXT_TOKEN),
        ({}, NEXT_TOKEN),
    ],
)
def test_the_record_of_an_export_wins_over_its_architecture(
    facts: dict[str, str], expected: object, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["ModernBertDecoderForCausalLM"]}')
    (tmp_path / METADATA_FILE).write_text(json.dumps(facts))
    assert readout_of(tmp_path) == expected
    (tmp_path / METADATA_FILE).write_text('{"objective": "elsewhere"}')
    with pytest.raises(ValueError, match="objective='elsewhere' of .* is not defined here; add its file"):
        readout_of(tmp_path)


def test_what_is_not_read_is_trained_and_exported_and_not_measured(
    trained: Trained, exports: dict[str, Path], corpus: Corpus, suite: SuiteConfig
) -> None:
    run, folder = trained["silent"]
    assert folder.complete and folder.summary()["readout"] == "none"
    problem = "objective='silent' declares no readout"
    with pytest.raises(ValueError, match=problem):
        run.check_readable()
    with pytest.raises(ValueError, match=problem):
        choosing(run)
    assert evaluate_run(folder.path, corpus.folder.parent, suite, "cpu", 1) == []  # a study goes on: a hole
    runs = pd.DataFrame([{"member": "silent", "readout": "none"}])
    assert hole("winobias", "silent", runs, pd.DataFrame()) == UNREADABLE
    model = opened(trained, "silent", corpus)
    assert model.embed(["The nurse was late."]).shape == (1, 32)
    with pytest.raises(ValueError, match="declares no readout"):
        model.log_probability([("The nurse", " was late.")])
    with pytest.raises(ValueError, match="objective='silent' of .*ettin.json declares no readout"):
        open_pretrained(str(exports["silent"]), device="cpu")
    with pytest.raises(
        ValueError, match="readout='two' is not a readout; use one of clm, mlm, mntp, ahead<number>, none"
    ):
        replace(OBJECTIVES["silent"], readout="two")


def test_the_harness_asks_the_export(trained: Trained, exports: dict[str, Path], corpus: Corpus) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    from lm_eval.api.instance import Instance

    from ettin_core.evaluation.harness.model import EttinLM

    pairs = [("The nurse was", " late."), ("The keys", " were old.")]
    asked = [Instance("loglikelihood", {}, pair, 0, ("task", number, 1)) for number, pair in enumerate(pairs)]
    for name, protocol in (("skip", "conditional"), ("causal-mlm", "masked_left_to_right")):
        model = EttinLM(str(exports[name]), device="cpu")
        assert model.protocol == protocol and model.get_model_info()["ettin"]["readout"] != "clm"
        expected = [result.log_probability for result in opened(trained, name, corpus).log_probability(pairs)]
        answers = model.loglikelihood(asked, disable_tqdm=True)
        assert [value for value, _ in answers] == pytest.approx(expected, abs=1e-4)
        (text,) = model.generate_until([Instance("generate_until", {}, ("The", {"max_gen_toks": 3}), 0)], True)
        assert isinstance(text, str)
