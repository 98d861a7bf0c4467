"""Sets, triplets, the ends of a text and the arithmetic of scores; nothing here needs mteb."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from sklearn.metrics import matthews_corrcoef

from ettin_core.evaluation.retrieval.checkpoints import open_checkpoint
from ettin_core.evaluation.retrieval.config import ContrastiveConfig, Setting
from ettin_core.evaluation.retrieval.files import need_packages
from ettin_core.evaluation.retrieval.items import matthews_values, query_clusters, query_ndcg, spearman_values
from ettin_core.evaluation.retrieval.rows import read_rows
from ettin_core.evaluation.retrieval.sets import local_sets, read_retrieval
from ettin_core.evaluation.retrieval.triplets import read_triplets
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.requests.compose import to_plain
from ettin_core.requests.retrieve import RetrieveRequest
from tests.embeddings import write_rows, write_sets

ROW = {"source": "a", "query": "q", "positive": "p", "negative": "n"}
CONFIG = ContrastiveConfig(None, None, None, (1e-3, 1e-4), (4,), (1.0, 2.0), (1, 2), 4, 0.05, 0.0, 20.0, "fp32")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """The small folder of evaluation sets."""
    return write_sets(tmp_path / "eval")


def refused(part: Callable[[], Any], *words: str) -> None:
    """The call ends with one line that holds the words."""
    with pytest.raises(UserError) as caught:
        part()
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({name: ROW[name] for name in ("source", "query", "positive")}, "lacks a value of the field 'negative'"),
        ({**ROW, "query": 3}, "a int in the field 'query'"),
        ([1], "is not an object"),
    ],
)
def test_a_triplet_that_is_none_is_named_by_file_and_line(tmp_path: Path, row: Any, word: str) -> None:
    file = write_rows(tmp_path / "triplets.jsonl.gz", [ROW, row])
    refused(lambda: read_triplets(file, None, None), f"{file}:2", word)


def test_triplets_by_source_and_number(sets: Path) -> None:
    file = sets / "retrieval/train_triplets.jsonl.gz"
    assert len(read_triplets(file, None, None)) == 40
    first = read_triplets(file, ("first",), 8)
    assert len(first) == 8 and all(row["query"].startswith("where") for row in first)
    assert first == read_triplets(file, ("first",), 8)
    refused(lambda: read_triplets(file, ("third",), None), "third", "first, second")
    refused(lambda: read_triplets(file.with_name("none.jsonl.gz"), None, None), "none.jsonl.gz", "missing")
    file.write_bytes(file.read_bytes()[:-20])
    refused(lambda: read_triplets(file, None, None), str(file), "damaged")


def test_sets_are_found_by_where_they_lie(sets: Path) -> None:
    by_name = local_sets(sets)
    assert {name: local.kind for name, local in by_name.items()} == {
        "animals": "Retrieval", "pairs": "STS", "places": "Classification",
        "alike": "PairClassification", "asked": "Reranking", "kinds": "Clustering",
    }  # fmt: skip
    write_rows(sets / "clustering/split/test.jsonl.gz", [{"text": word, "label": word} for word in ("a", "b")])
    assert read_rows(local_sets(sets)["split"], "test") == [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    _, queries, relevant = read_retrieval(by_name["animals"], "test")
    assert [query["id"] for query in queries] == list(relevant) == [f"q{number}" for number in range(1, 20, 2)]
    assert {row["split"] for row in read_rows(by_name["pairs"], "dev")} == {"validation"}
    refused(lambda: read_rows(by_name["places"], "dev"), "places", "no dev split")
    refused(lambda: by_name["animals"].files("train"), "animals", "no train split")
    refused(lambda: local_sets(sets / "nowhere"), "eval_data", "nowhere")


def test_the_revision_is_that_of_the_bytes(sets: Path) -> None:
    animals = local_sets(sets)["animals"]
    before = animals.revision("test"), animals.revision("dev")
    assert before[0] != before[1]
    write_rows(animals.root / "queries.jsonl.gz", [{"_id": f"q{number}", "text": "where"} for number in range(20)])
    assert animals.revision("test") not in before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("q77\td1\t1", ("q77", "has no text")),
        ("q1\td77\t1", ("d77", "has no text")),
        ("q1 d1 1", ("dev.tsv:2", "not a judgement")),
    ],
)
def test_judgements_without_text_are_refused(sets: Path, line: str, words: tuple[str, ...]) -> None:
    animals = local_sets(sets)["animals"]
    (animals.root / "qrels/dev.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
    refused(lambda: read_retrieval(animals, "dev"), *words)


def test_a_grid_has_every_combination_once_and_no_nonsense() -> None:
    assert CONFIG.settings() == [Setting(rate, 4, epochs) for rate in (1e-3, 1e-4) for epochs in (1.0, 2.0)]
    changes: list[dict[str, Any]] = [
        {"learning_rates": ()}, {"seeds": (1, 1)}, {"batches": (1,)}, {"epochs": (0.0,)}, {"mini_batch": 0},
        {"warmup_share": 1.0}, {"precision": "fp16"}, {"max_triplets": 0},
    ]  # fmt: skip
    for change in changes:
        refused(lambda change=change: replace(CONFIG, **change), f"contrastive.{next(iter(change))}")


def test_the_published_protocol_is_what_the_configuration_says() -> None:
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        overrides = ["models=[a,b]", "eval_data=sets", "contrastive=published", "contrastive.triplets=marco.jsonl.gz"]
        request = build(RetrieveRequest, to_plain(compose("retrieve", overrides)))
        refused(lambda: to_plain(compose("retrieve", ["contrastive=published"])), "is missing")
    config = request.contrastive
    assert (config.max_triplets, config.batches, config.mini_batch, config.epochs) == (1_250_000, (1024,), 256, (1.0,))
    assert config.recipe == {"warmup_share": 0.05, "weight_decay": 0.0, "scale": 20.0, "precision": "bf16"}
    assert 3e-4 in config.learning_rates
    assert request.batch == 32  # MTEB's own, so that mteb by hand gives the same number


def test_ndcg_by_hand() -> None:
    pytest.importorskip("pytrec_eval")
    relevant = {"a": {"x": 1}, "b": {"x": 1, "y": 1}}
    scores = {"a": {"z": 0.9, "x": 0.5}, "b": {"x": 0.9, "z": 0.8, "y": 0.7}}
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    expected = {"a": second, "b": (1 + third) / (1 + second)}
    assert query_ndcg(relevant, scores, 10) == pytest.approx(expected)
    assert query_ndcg(relevant, scores, 1) == pytest.approx({"a": 0.0, "b": 1.0})
    assert query_ndcg({"z": {"x": 1}}, {"z": {"z": 0.9, "x": 0.5}}, 1, ignore_identical=True) == {"z": 1.0}


def test_items_of_a_rank_correlation_are_the_jackknife() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    gold = random.integers(0, 6, 40).astype(float)  # with ties
    predicted = gold + random.normal(0, 2, 40)
    values = spearman_values(gold, predicted)
    without = [spearmanr(np.delete(gold, n), np.delete(predicted, n))[0] for n in range(40)]
    assert values.mean() == pytest.approx(spearmanr(gold, predicted)[0])
    variance = 39 / 40 * ((without - np.mean(without)) ** 2).sum()
    assert values.std(ddof=1) / 40**0.5 == pytest.approx(variance**0.5)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    refused(lambda: open_checkpoint(str(tmp_path)), "models", "no config.json")
    (tmp_path / "config.json").write_text('{"model_type": "modernbert"}')
    refused(lambda: open_checkpoint(str(tmp_path)), "models", "no weights")
    refused(lambda: open_checkpoint("nobody/nothing-at-all"), "nobody/nothing-at-all", "HF_HUB_OFFLINE")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    refused(need_packages, "sentence_transformers", "[embedding]")


def test_the_questions_about_one_passage_are_one_cluster() -> None:
    relevant = {"a": {"p": 1, "x": 0}, "b": {"p": 2}, "c": {"p": 1, "q": 1}, "d": {"r": 1}}
    clusters = query_clusters(relevant)
    assert set(clusters) == {"a", "b"} and clusters["a"] == clusters["b"]


def test_values_of_matthews_correlation_have_its_mean_and_the_jackknifes_error() -> None:
    gold = np.array([0, 1, 1, 0, 2, 2, 1, 0, 1, 2])
    predicted = np.array([0, 1, 0, 0, 2, 1, 1, 0, 1, 0])
    values = matthews_values(gold, predicted)
    kept = [np.arange(10) != place for place in range(10)]
    left = np.array([matthews_corrcoef(gold[indices], predicted[indices]) for indices in kept])
    assert values.mean() == pytest.approx(matthews_corrcoef(gold, predicted))
    error = (0.9 * ((left - left.mean()) ** 2).sum()) ** 0.5
    assert values.std(ddof=1) / 10**0.5 == pytest.approx(error)
