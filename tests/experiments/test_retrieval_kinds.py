"""Multi-vector, sparse and reranking models from end to end, and the same scores by the plain library in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mteb", reason="the extra `embedding` is not installed")

from analysis.load import load  # noqa: E402
from ettin_core.data.corpus import Corpus  # noqa: E402
from ettin_core.evaluation.retrieval.checkpoints import open_checkpoint  # noqa: E402
from ettin_core.evaluation.retrieval.kinds.reranker import Reranker, RerankerOptions  # noqa: E402
from ettin_core.evaluation.retrieval.kinds.sparse import Sparse, SparseOptions  # noqa: E402
from ettin_core.evaluation.retrieval.retriever import open_retriever  # noqa: E402
from ettin_core.evaluation.retrieval.selection import GridScore  # noqa: E402
from ettin_core.evaluation.retrieval.table import table  # noqa: E402
from ettin_core.evaluation.retrieval.tasks import open_tasks  # noqa: E402
from ettin_core.foundation.errors import UserError  # noqa: E402
from ettin_core.foundation.storage import read_json_lines  # noqa: E402
from ettin_core.interop.weights import read_weights  # noqa: E402
from ettin_core.records.folders import RunFolder  # noqa: E402
from ettin_core.requests.retrieve import RetrieveRequest, retrieve  # noqa: E402
from tests.embeddings import retrieve_request, write_members  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # mteb, about others
MEMBERS = ("encoder", "decoder")
KINDS = {
    "dense": ("mteb.contrastive.mean", ()),
    "multivector": ("mteb.multivector.kl", ("multivector.loss=kl", "multivector.width=8")),
    "sparse": ("mteb.sparse.splade", ()),
    "reranker": ("mteb.reranker.bce", ("reranker.negatives=2", "reranker.candidates=6")),
}
PLAIN = Path(__file__).parent / "fixtures" / "plain_retrieval.py"


@pytest.fixture(scope="module")
def place(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run of each member, their exports, and evaluation sets."""
    return write_members(tmp_path_factory.mktemp("kinds"), corpus)


@pytest.fixture(scope="module")
def requests(place: Path, corpus: Corpus) -> dict[str, RetrieveRequest]:
    """A request of every kind: one setting, one seed, two steps; the dense encoder teaches and retrieves."""
    small = ("contrastive.learning_rates=[2e-3]", "contrastive.seeds=[1]", "tasks=[animals]")
    base = {kind: retrieve_request(place, corpus, f"kind={kind}", *small, *more) for kind, (_, more) in KINDS.items()}
    retrieve(base["dense"])
    dense = str(trial(place, "encoder", "mean"))
    return base | {kind: replace(base[kind], retriever=dense) for kind in ("multivector", "reranker")}


@pytest.fixture(scope="module")
def scores(requests: dict[str, RetrieveRequest]) -> dict[str, list[GridScore]]:
    """The table's rows of every kind."""
    return {kind: retrieve(request) for kind, request in requests.items()}


def trial(place: Path, member: str, way: str) -> Path:
    """The folder of a member's only trial of a kind."""
    [model] = place.glob(f"retrieval/*-{member}-*-{way}-*-s1-*/model")
    return model.parent


def way_of(kind: str) -> str:
    """How folders of trials name a kind."""
    return {"dense": "mean", "multivector": "multivector-kl", "sparse": "sparse-splade", "reranker": "reranker-bce"}[
        kind
    ]


def test_every_member_has_a_score_and_what_it_costs(place: Path, scores: dict[str, list[GridScore]]) -> None:
    for kind, rows in scores.items():
        assert [row.measurement.protocol for row in rows] == [KINDS[kind][0]] * 2
        assert [row.measurement.member for row in rows] == list(MEMBERS)
        for row in rows:
            beside = {record.metric: record.value for record in row.beside}
            assert beside["bm25_ndcg_at_10"] == 1.0 and beside["queries_per_second"] > 0
            assert ("active_dimensions" in beside) == (kind == "sparse")
            assert ("first_stage_ndcg_at_10" in beside) == (kind == "reranker")
    width, documents = open_checkpoint(str(place / "hf-encoder")).width, 20
    index = {kind: rows[0].value_of("index_bytes") for kind, rows in scores.items()}
    assert width is not None and index["dense"] == index["reranker"] == documents * width * 4
    active = scores["sparse"][0].value_of("active_dimensions")
    assert active is not None and index["sparse"] == active * documents * 8
    folder = RunFolder((place / "decoder").resolve())
    metrics = {row.metric for row in folder.measurements() if row.protocol == "mteb.reranker.bce"}
    assert {"ndcg_at_10", "ndcg_at_10_dev", "first_stage_ndcg_at_10", "index_bytes", "queries_per_second"} <= metrics
    assert "first stage" in table(scores["reranker"]) and "active" not in table(scores["reranker"])


def test_the_plain_library_gives_the_stored_scores_and_trains_exported_folders(
    place: Path, scores: dict[str, list[GridScore]]
) -> None:
    folders = {trial(place, member, way_of(kind)): kind for kind in KINDS for member in MEMBERS}
    jobs = [f"{kind}={folder / 'model'}" for folder, kind in folders.items()]
    exports = [str(place / f"hf-{member}") for member in MEMBERS]
    arguments = [*exports, str(place / "eval/retrieval/animals"), str(trial(place, "encoder", "mean") / "model"), *jobs]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(PLAIN), *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    plain = json.loads(done.stdout.splitlines()[-1])
    assert plain["ours"] == [] and plain["trained"] == ["dense", "dense", "multivector", "sparse", "reranker"]
    for folder, score in zip(folders, plain["scores"], strict=True):
        stored = read_json_lines(folder / "evaluations/animals.test/measurements.jsonl")[0]["value"]
        assert score == pytest.approx(stored, abs=1e-5), folder.name


def test_repeated_nothing_is_done(
    place: Path, requests: dict[str, RetrieveRequest], scores: dict[str, list[GridScore]]
) -> None:
    times = {path: path.stat().st_mtime_ns for path in place.glob("retrieval/*/*/**/*.json*")}
    assert {kind: retrieve(requests[kind]) for kind in ("multivector", "reranker")} == {
        kind: scores[kind] for kind in ("multivector", "reranker")
    }
    assert {path: path.stat().st_mtime_ns for path in place.glob("retrieval/*/*/**/*.json*")} == times


def test_a_reranker_of_a_decoder_keeps_its_head_and_is_trained(place: Path, scores: dict[str, list[GridScore]]) -> None:
    stored = read_weights(place / "hf-decoder")
    model = Reranker(RerankerOptions(2, 6), None).build(open_checkpoint(str(place / "hf-decoder")), 24, 1, "cpu")
    built = model.model.state_dict()
    torch.testing.assert_close(built["head.dense.weight"], stored["lm_head.dense.weight"], rtol=0, atol=0)
    again = Reranker(RerankerOptions(2, 6), None).build(open_checkpoint(str(place / "hf-decoder")), 24, 1, "cpu")
    torch.testing.assert_close(
        again.model.state_dict()["classifier.weight"], built["classifier.weight"], rtol=0, atol=0
    )
    trained = read_weights(trial(place, "decoder", "reranker-bce") / "model")
    for name in ("classifier.weight", "head.dense.weight", "model.layers.0.attn.q_proj.weight"):
        assert name in trained and not torch.equal(trained[name], built[name]), name


def test_texts_end_alike_and_padding_does_not_matter(place: Path) -> None:
    rows = []
    for member in MEMBERS:
        model = Reranker(RerankerOptions(2, 6), None).build(open_checkpoint(str(place / f"hf-{member}")), 24, 1, "cpu")
        rows.append(model.tokenizer("the cat", "the [MASK] sat")["input_ids"])
        assert rows[-1].count(model.tokenizer.eos_token_id) == 2 and rows[-1][-1] == model.tokenizer.eos_token_id
        pairs = [("the cat", "sat"), ("where is the dog", "the dog sat near the river all day")]
        alone = [float(model.predict([pair])[0]) for pair in pairs]
        np.testing.assert_allclose(model.predict(pairs), alone, atol=1e-6)  # padding
        splade = Sparse(SparseOptions(0.0, 0.0)).build(open_checkpoint(str(place / f"hf-{member}")), 24, 0, "cpu")
        texts = ["the cat", "where is the dog and who has seen it"]
        single = torch.cat([splade.encode([text]).to_dense() for text in texts])
        torch.testing.assert_close(splade.encode(texts).to_dense(), single, atol=1e-5, rtol=0)
    assert rows[0] == rows[1]


def test_matryoshka_widths_are_parts_of_the_task(place: Path, requests: dict[str, RetrieveRequest]) -> None:
    root, models = str(place / "matryoshka"), requests["dense"].models[:1]
    here = replace(requests["dense"], matryoshka=(4,), models=models, retrieval_dir=root)
    [row] = retrieve(here)
    [part] = [record for record in row.beside if "/" in record.task]
    assert (part.task, part.metric) == ("animals/width_4", "ndcg_at_10") and part.value is not None
    refused(replace(here, matryoshka=(4096,)), "matryoshka", "4096", "dimensions")


def test_members_of_unequal_grids_do_not_share_a_table(
    place: Path, requests: dict[str, RetrieveRequest], scores: dict[str, list[GridScore]]
) -> None:
    settings = [row.measurement.provenance["settings"] for row in scores["sparse"]]
    assert settings[0] == settings[1]
    twice = replace(requests["sparse"].contrastive, seeds=(1, 2))
    [row] = retrieve(replace(requests["sparse"], models=requests["sparse"].models[1:], contrastive=twice))
    changed = {name for name, value in row.measurement.provenance["settings"].items() if value != settings[1][name]}
    assert changed == {"grid"} and row.trials == 2
    with pytest.raises(
        ValueError, match=r"mteb.sparse.splade' was measured with different settings .*grid=.*same .* grid"
    ):
        load(place / "runs")


def test_other_losses_and_untrained_models(place: Path, requests: dict[str, RetrieveRequest]) -> None:
    request = replace(requests["multivector"], models=requests["multivector"].models[1:])
    protocols, both = [], ("animals", "asked")
    for loss in ("contrastive", "margin_mse"):
        ranked = retrieve(replace(request, multivector=replace(request.multivector, loss=loss), tasks=both))
        protocols.append(ranked[0].measurement.protocol)
        assert ranked[1].value_of("index_bytes") is not None and len(ranked[1].items) == 4
    assert protocols == ["mteb.multivector.contrastive", "mteb.multivector.margin_mse"]
    untrained = replace(requests["reranker"], models=request.models, train=False, retriever=None, tasks=both)
    bare, asked = retrieve(untrained)
    assert bare.measurement.protocol == "mteb.reranker.untrained"
    assert bare.value_of("first_stage_ndcg_at_10") == bare.value_of("bm25_ndcg_at_10") == 1.0
    assert asked.value_of("bm25_ndcg_at_10") == 1.0 and asked.value_of("queries_per_second") is not None
    assert asked.value_of("first_stage_ndcg_at_10") is asked.value_of("index_bytes") is None  # candidates are given


def refused(request: RetrieveRequest, *words: str) -> None:
    """The command ends with one line that holds the words."""
    with pytest.raises(UserError) as caught:
        retrieve(request)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_what_cannot_be_done_is_refused_before_any_work(
    place: Path, requests: dict[str, RetrieveRequest], tmp_path: Path
) -> None:
    refused(replace(requests["reranker"], retriever=None), "retriever", "mine hard negatives", "kind=dense")
    refused(replace(requests["multivector"], retriever=None), "retriever", "teacher", "kind=dense")
    refused(replace(requests["reranker"], retriever=str(tmp_path)), "retriever", "not a folder of a dense model")
    refused(replace(requests["reranker"], tasks=("pairs",)), "pairs", "STS", "kind=reranker")
    refused(replace(requests["reranker"], tasks=("MIRACLRetrieval",)), "MIRACLRetrieval", "subsets")
    sparse = str(trial(place, "encoder", "sparse-splade"))
    refused(replace(requests["reranker"], retriever=sparse), "SparseEncoder", "not a dense model")
    changes: dict[str, tuple[Any, str]] = {
        "kind": ("colbert", "dense, multivector, sparse, reranker"),
        "matryoshka": ((4,), "kind=sparse"),
        "retriever": ("folder", "kind=sparse"),
    }
    for field, (value, words) in changes.items():
        with pytest.raises(UserError, match=words):
            replace(requests["sparse"], **{field: value})
    with pytest.raises(UserError, match="twice"):
        replace(requests["dense"], matryoshka=(4, 4))
    refused(replace(requests["dense"], models=(str(place / "hf-encoder"),), checkpoint="step-1"), "belongs to a run")
    assert (
        open_retriever(str(trial(place, "encoder", "mean"))).content
        == open_retriever(str(trial(place, "encoder", "mean") / "model")).content
    )


def test_a_reranking_task_keeps_its_candidates() -> None:
    [task] = open_tasks(["AskUbuntuDupQuestions"], None)
    kind = Reranker(RerankerOptions(2, 6), None)
    kind.check_task(task)
    assert kind.task_settings(task) == {"first_stage": "task"} and kind.prepare(task, 8, "cpu") is None


def test_a_retriever_is_known_by_the_weights_in_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "2_Dense").mkdir()
    contents = set()
    for name in ("model.safetensors", "pytorch_model.bin"):
        for weights in (b"a", b"b"):
            (tmp_path / "2_Dense" / name).write_bytes(weights)
            contents.add(open_retriever(str(tmp_path)).content)
    assert len(contents) == 4
