"""Embeddings from end to end: real runs, real Sentence Transformers, and MTEB by hand. One file: mteb imports for seconds."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mteb", reason="the extra `embedding` is not installed")
pytest.importorskip("sentence_transformers", reason="the extra `embedding` is not installed")

from ettin_core.data.corpus import Corpus  # noqa: E402
from ettin_core.evaluation.retrieval.backbone import end_with_eos  # noqa: E402
from ettin_core.evaluation.retrieval.checkpoints import open_checkpoint  # noqa: E402
from ettin_core.evaluation.retrieval.config import ContrastiveConfig  # noqa: E402
from ettin_core.evaluation.retrieval.items import query_ndcg  # noqa: E402
from ettin_core.evaluation.retrieval.kinds.dense import Dense  # noqa: E402
from ettin_core.evaluation.retrieval.table import table  # noqa: E402
from ettin_core.evaluation.retrieval.tasks import load, local_task, open_tasks  # noqa: E402
from ettin_core.foundation.errors import UserError  # noqa: E402
from ettin_core.foundation.storage import read_json, read_json_lines  # noqa: E402
from ettin_core.records.folders import RunFolder  # noqa: E402
from ettin_core.records.protocols import SEARCH_COSTS  # noqa: E402
from ettin_core.requests.retrieve import RetrieveRequest, retrieve  # noqa: E402
from tests.embeddings import retrieve_request, write_members  # noqa: E402

CONFIG = ContrastiveConfig(None, None, 16, (1e-3, 1e-2), (8,), (1.0,), (1, 2), 4, 0.05, 0.0, 20.0, "fp32")
TASKS = ("animals", "pairs", "places")


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # mteb, about others


@pytest.fixture(scope="module")
def place(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run of each member, their exports, and evaluation sets."""
    return write_members(tmp_path_factory.mktemp("retrieve"), corpus)


@pytest.fixture(scope="module")
def request_of(place: Path, corpus: Corpus) -> RetrieveRequest:
    """Both members, mean pooling, four trials of two steps each."""
    return replace(retrieve_request(place, corpus), contrastive=CONFIG, tasks=TASKS)


@pytest.fixture(scope="module")
def lines(request_of: RetrieveRequest, place: Path) -> list[Any]:
    """The table of a finished command, which must not have touched a checkpoint."""
    before = {member: digest(place / member / "checkpoints") for member in ("encoder", "decoder")}
    found = retrieve(request_of)
    assert before == {member: digest(place / member / "checkpoints") for member in ("encoder", "decoder")}
    return found


def digest(folder: Path) -> dict[str, str]:
    """Every file of a folder by its content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def trials(place: Path, root: str = "retrieval") -> list[Path]:
    """The folders of trials."""
    return sorted(path.parent for path in (place / root).glob("*/model"))


def test_every_member_ends_with_the_same_token_and_lasttoken_pools_it(place: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["the cat sat", "where is the dog and who has seen it today " * 9, "[CLS] the [SEP] and the [MASK]"]
    ids = {}
    for member in ("encoder", "decoder"):
        checkpoint = open_checkpoint(str(place / f"hf-{member}"))
        assert (checkpoint.member, checkpoint.size, checkpoint.seed) == (member, "tiny", 21)
        model = Dense("lasttoken").build(checkpoint, 24, 0, "cpu")
        rows = [model.tokenize([text])["input_ids"][0] for text in texts]
        assert len(rows[1]) == 24  # cut, and still ended
        eos = model.tokenizer.eos_token_id
        assert all(int(row[-1]) == eos and int((row == eos).sum()) == 1 for row in rows)
        assert not {model.tokenizer.mask_token_id, model.tokenizer.cls_token_id} & set(rows[2][1:].tolist())  # letters
        ids[member] = [row.tolist() for row in rows]
        backbone = model[0].auto_model
        for text, row in zip(texts, rows, strict=True):
            with torch.no_grad():
                states = backbone(row[None]).last_hidden_state[0]
            last = torch.nn.functional.normalize(states[-1], dim=0)
            torch.testing.assert_close(torch.tensor(model.encode(text)), last)
        together = model.encode(texts)  # padded
        np.testing.assert_allclose(together, np.stack([model.encode(text) for text in texts]), atol=1e-6)
        model.save(str(place / f"saved-{member}"))
        np.testing.assert_array_equal(SentenceTransformer(str(place / f"saved-{member}")).encode(texts), together)
    assert ids["encoder"] == ids["decoder"]


def test_poolings_are_what_they_are_called(place: Path) -> None:
    checkpoint = open_checkpoint(str(place / "hf-decoder"))
    for pooling in ("mean", "weightedmean"):
        model = Dense(pooling).build(checkpoint, None, 0, "cpu")
        row = model.tokenize(["the cat sat"])["input_ids"]
        with torch.no_grad():
            states = model[0].auto_model(row).last_hidden_state[0]
        weights = torch.ones(len(states)) if pooling == "mean" else torch.arange(1.0, len(states) + 1)
        expected = torch.nn.functional.normalize((weights[:, None] * states).sum(0) / weights.sum(), dim=0)
        torch.testing.assert_close(torch.tensor(model.encode("the cat sat")), expected)


def test_every_member_gets_every_trial(place: Path, lines: list[Any]) -> None:
    assert [(line.measurement.member, line.measurement.task, line.trials) for line in lines] == [
        (member, task, 4) for member in ("encoder", "decoder") for task in TASKS
    ]
    names = [path.name.rsplit("-", 1)[0] for path in trials(place)]
    points = [f"-mean-lr{rate}-b8-e1-s{seed}" for rate in ("0.001", "0.01") for seed in (1, 2)]
    for member in ("encoder", "decoder"):
        run = (place / member).resolve().name
        assert [name for name in names if name.startswith(run)] == [run + point for point in points]
    assert "chosen by dev" in table(lines)
    in_time = sorted(trials(place), key=lambda path: (path / "model/trial.json").stat().st_mtime_ns)
    assert [path.name.split("-")[1] for path in in_time] == ["encoder", "decoder"] * 4  # equally many at any moment


def test_the_choice_is_dev_s_and_the_score_the_mean_of_its_seeds(place: Path, lines: list[Any]) -> None:
    for line in lines:
        grid = [path for path in trials(place) if path.name.startswith(line.measurement.run)]

        def value(path: Path, task: str) -> float:
            return read_json_lines(path / f"evaluations/{task}/measurements.jsonl")[0]["value"]

        by_rate = {rate: [path for path in grid if f"-lr{rate}-" in path.name] for rate in ("0.001", "0.01")}
        dev = {rate: np.mean([value(path, "animals.dev") for path in paths]) for rate, paths in by_rate.items()}
        best = max(dev, key=lambda rate: dev[rate])
        scores = [value(path, f"{line.measurement.task}.test") for path in by_rate[best]]
        every = [value(path, f"{line.measurement.task}.test") for path in grid]
        assert line.measurement.value == pytest.approx(np.mean(scores))
        assert line.spread == pytest.approx(np.std(scores, ddof=1))
        assert (line.median, line.worst) == (pytest.approx(np.median(every)), min(every))
        assert np.mean([item.value for item in line.items]) == pytest.approx(line.measurement.value, abs=1e-5)


def test_training_moves_the_weights_and_follows_the_schedule(place: Path, lines: list[Any]) -> None:
    steps = [read_json(path / "model/training.json") for path in trials(place)]
    assert all([row["step"] for row in rows] == [1, 2] for rows in steps)
    assert all(rows[0]["loss"] != rows[1]["loss"] for rows in steps)
    hashes = [read_json_lines(path / "evaluations/pairs.test/measurements.jsonl")[0] for path in trials(place)]
    assert len({row["provenance"]["embedder_weights"] for row in hashes}) == len(hashes) == 8


def test_mteb_by_hand_gives_the_same_number(place: Path, lines: list[Any]) -> None:
    import mteb
    from sentence_transformers import SentenceTransformer

    for member in ("encoder", "decoder"):
        folder = next(path for path in trials(place) if path.name.startswith((place / member).resolve().name))
        model = SentenceTransformer(str(folder / "model"), device="cpu")
        for name in TASKS:
            result = mteb.evaluate(model, local_task(name, place / "eval"), cache=None, show_progress_bar=False)[0]
            stored = read_json_lines(folder / f"evaluations/{name}.test/measurements.jsonl")[0]
            assert result.get_score() == stored["value"]
            kept = read_json(folder / f"evaluations/{name}.test/mteb.json")
            assert kept["scores"]["test"][0]["main_score"] == pytest.approx(stored["value"], abs=1e-6)


def test_pairs_clusters_and_candidates_are_measured_as_mteb_and_by_hand(
    place: Path, request_of: RetrieveRequest
) -> None:
    import mteb
    from sentence_transformers import SentenceTransformer
    from sklearn.metrics import average_precision_score

    names = ("alike", "kinds", "asked")
    here = replace(request_of, models=(str(place / "hf-encoder"),), train=False, retrieval_dir=str(place / "kinds"))
    stored = {line.measurement.task: line for line in retrieve(replace(here, tasks=names))}
    model = SentenceTransformer(str(next((place / "kinds").glob("*/model"))), device="cpu")
    tasks = {name: local_task(name, place / "eval") for name in names}
    for name, task in tasks.items():
        result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)[0]
        assert (stored[name].measurement.metric, stored[name].measurement.value) == (
            task.metadata.main_score,
            result.get_score(),
        )
        task.load_data()  # MTEB unloads what it has measured
    pairs = tasks["alike"].dataset["test"]
    left, right = (model.encode(pairs[name]) for name in ("sentence1", "sentence2"))
    [kept] = (place / "kinds").glob("*/evaluations/alike.test/mteb.json")
    assert read_json(kept)["scores"]["test"][0]["cosine_ap"] == pytest.approx(
        average_precision_score(pairs["labels"], (left * right).sum(1)), abs=1e-5
    )
    data = tasks["asked"].dataset["default"]["test"]
    texts = dict(zip(data["corpus"]["id"], data["corpus"]["text"], strict=True))
    asked = model.encode(data["queries"]["text"])
    hits = [
        {name: float(query @ model.encode(texts[name])) for name in data["top_ranked"][row]}
        for row, query in zip(data["queries"]["id"], asked, strict=True)
    ]
    values = query_ndcg(data["relevant_docs"], dict(zip(data["queries"]["id"], hits, strict=True)), 10)
    assert stored["asked"].measurement.value == pytest.approx(np.mean(list(values.values())), abs=1e-5)
    assert len(stored["asked"].items) == 4 and stored["asked"].value_of("bm25_ndcg_at_10") == 1.0
    assert [stored[name].measurement.n for name in names] == [140, 20, 4]


def test_records_say_where_a_number_comes_from(place: Path, lines: list[Any]) -> None:
    folder = RunFolder((place / "decoder").resolve())
    measured = [row for row in folder.measurements() if row.protocol == "mteb.contrastive.mean"]
    dev, *rest = sorted(measured, key=lambda row: not row.metric.endswith("_dev"))
    stored = [row for row in rest if row.metric not in SEARCH_COSTS]
    assert {row.task for row in rest if row.metric in SEARCH_COSTS} == {"animals"}
    assert (dev.task, dev.metric, dev.n) == ("animals.dev", "ndcg_at_10_dev", 10)
    assert {row.provenance["task_type"] for row in stored} == {"Retrieval", "STS", "Classification"}
    assert {row.task: row.n for row in stored} == {"animals": 10, "pairs": 40, "places": 20}
    metrics = {"animals": "ndcg_at_10", "pairs": "cosine_spearman", "places": "accuracy"}
    weights = read_json(place / "hf-decoder/ettin.json")["weights"]
    for row in stored:
        assert row.metric == metrics[row.task]
        assert row.standard_error is not None and (row.standard_error > 0 or row.value == 1)
        assert row.checkpoint == folder.summary()["final_checkpoint"]
        assert row.provenance["weights"] == weights
        assert (
            row.provenance["settings"]["revision"] == local_task(row.task, place / "eval").metadata.dataset["revision"]
        )
        assert {"mteb", "sentence-transformers", "transformers", "torch", "datasets"} <= set(
            row.provenance["libraries"]
        )
        assert len(row.provenance["trials"]) == 4
    assert len(folder.items("mteb.contrastive.mean")) == 70
    meta = read_json(trials(place)[0] / "evaluations/pairs.test/model_meta.json")
    assert meta["name"] == f"ettin/{trials(place)[0].name}"
    row = read_json_lines(trials(place)[0] / "evaluations/pairs.test/measurements.jsonl")[0]
    assert meta["revision"] == row["provenance"]["embedder_weights"]


def test_repeated_nothing_is_done_and_what_is_missing_is(
    place: Path, lines: list[Any], request_of: RetrieveRequest
) -> None:
    retrained = trials(place)[2] / "model/model.safetensors"
    weights = retrained.read_bytes()
    times = {path: path.stat().st_mtime_ns for folder in trials(place) for path in folder.rglob("*.json*")}
    shutil.rmtree(trials(place)[1] / "evaluations/pairs.test")  # killed before this task
    shutil.rmtree(retrained.parent)  # killed while it was trained
    removed = [path for path in times if not path.exists()]
    assert retrieve(request_of) == lines
    written = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert written == set(removed)
    assert retrained.read_bytes() == weights  # the same trial, bit by bit


def test_what_was_measured_with_other_settings_or_tasks_stays(
    place: Path, lines: list[Any], request_of: RetrieveRequest
) -> None:
    folder = RunFolder((place / "encoder").resolve())
    before = folder.measurements()
    smaller = replace(request_of, models=request_of.models[:1], contrastive=replace(CONFIG, seeds=(1,)))
    assert {line.trials for line in retrieve(smaller)} == {2}
    assert folder.measurements() == before and {len(row.provenance["trials"]) for row in before} == {4}
    root, name = str(Path(smaller.models[0]).parent / "tiny-enc"), "mteb.untrained.mean"
    for task in ("pairs", "places"):
        retrieve(replace(smaller, models=(root,), train=False, tasks=(task,)))
    assert [row.task for row in folder.measurements() if row.protocol == name] == ["pairs", "places"]


def test_a_crash_in_a_task_keeps_what_was_finished(
    place: Path, request_of: RetrieveRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = replace(
        request_of,
        models=request_of.models[:1],
        train=False,
        retrieval_dir=str(place / "crash"),
        tasks=("pairs", "places"),
    )
    with monkeypatch.context() as context:
        context.setattr("sklearn.linear_model.LogisticRegression.fit", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            retrieve(once)
    [trial] = trials(place, "crash")
    assert [path.name for path in (trial / "evaluations").iterdir()] == ["pairs.test"]
    before = digest(trial)
    assert len(retrieve(once)) == 2
    assert {name: value for name, value in digest(trial).items() if name in before} == before


def test_untrained_checkpoints_and_those_that_diverge(place: Path, request_of: RetrieveRequest) -> None:
    here = replace(
        request_of, models=(str(place / "hf-decoder"),), tasks=("pairs",), retrieval_dir=str(place / "other")
    )
    poolings = ("mean", "lasttoken", "weightedmean")
    untrained = retrieve(replace(here, train=False, poolings=poolings))
    assert [line.measurement.protocol for line in untrained] == [f"mteb.untrained.{pooling}" for pooling in poolings]
    assert len({line.measurement.value for line in untrained}) == 3
    wild = replace(CONFIG, learning_rates=(1e-3, 1e30), seeds=(1,), max_triplets=32)
    [line] = retrieve(replace(here, contrastive=wild, select_by="pairs"))
    assert line.setting is not None and line.setting.learning_rate == 1e-3
    assert (line.trials, line.worst) == (2, None)
    assert " none " in table([line])
    only = replace(wild, learning_rates=(1e30,))
    [hole] = retrieve(replace(here, contrastive=only, select_by="pairs"))
    assert (hole.measurement.value, hole.measurement.n, hole.items) == (None, 0, [])
    assert "all diverged" in table([hole])


def refused(request: RetrieveRequest, *words: str) -> None:
    """The command ends with one line that holds the words."""
    with pytest.raises(UserError) as caught:
        retrieve(request)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_what_cannot_be_measured_is_refused(place: Path, request_of: RetrieveRequest, tmp_path: Path) -> None:
    refused(replace(request_of, tasks=("animal",)), "animal", "animals, asked, kinds, pairs, places", "MTEB(eng, v2)")
    refused(replace(request_of, select_by="places"), "places", "no dev split")
    refused(replace(request_of, max_length=500), "max_length", "500", "80")
    refused(replace(request_of, models=(str(tmp_path),)), "models", "config.json")
    with pytest.raises(UserError, match="poolings='cls' is unknown"):
        replace(request_of, poolings=("cls",))
    folder = tmp_path / "holes"
    shutil.copytree(place / "hf-encoder", folder)
    config = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5, "layer_types": None}))
    refused(replace(request_of, models=(str(folder),)), "lacks", "tensors")


def test_tasks_of_mteb_are_known_by_name_and_say_that_there_is_no_network() -> None:
    assert len(open_tasks(["MTEB(eng, v2)"], None)) == 41
    [task] = open_tasks(["STSBenchmark"], None)
    with pytest.raises(UserError, match=r"STSBenchmark.*cannot be fetched.*HF_HUB_OFFLINE=0") as caught:
        load(task)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_an_end_is_refused(place: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place / "hf-decoder")
    tokenizer.eos_token = tokenizer.sep_token = None
    with pytest.raises(UserError, match="has no EOS"):
        end_with_eos(tokenizer, "decoder")
