"""The model of the step: its table in docs is what it computes, its parts move as they should, a low rate gets its cause."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.model.config import ModelConfig
from ettin_core.planning.forecast import UNKNOWN
from ettin_core.planning.step_model import StepPrediction, StepShape, expected_rate, known_gpu, predict, step_shape
from ettin_core.planning.throughput import throughput
from ettin_core.requests.compose import composed, configurations
from ettin_core.requests.train import TrainRequest
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.expected_rate import UNKNOWN as UNEXPLAINED
from ettin_core.training.expected_rate import ExpectedRate
from ettin_core.training.memory import estimate_memory, micro_batch_count
from tests.runs import PLACEMENT, tiny_run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "model_of_the_step.md"
SIZES = ("17m", "32m", "68m", "150m", "400m", "1b")
GPU = PlacementConfig(device="cuda", activation_gib=32, compile=True)


def published(size: str, member: str) -> tuple[RunConfig, PlacementConfig]:
    """A member of a published size as planned, and the placement for a GPU as configured."""
    options = [f"size={size}", f"member={member}", "recipe=three_phases", "placement=gpu", "precision=bf16"]
    with configurations():
        asked = composed("train", TrainRequest, options)
    return asked.parts.planned(asked.member, 50_368, UNKNOWN, UNKNOWN), asked.placement


def predictions(size: str, member: str) -> Iterator[tuple[StepShape, StepPrediction]]:
    """For an H100 and an H200, four of each, in the first phase."""
    run, placement = published(size, member)
    shape = step_shape(run, placement, run.phases[0], 4)
    for name in ("H100", "H200"):
        gpu = known_gpu(name)
        assert gpu is not None
        yield shape, predict(run.model, run.direction, shape, gpu)


def line(size: str, member: str) -> str:
    """A line of the page's table, rates in thousands of tokens a second."""
    (shape, first), (_, second) = predictions(size, member)
    stated = throughput(size, None)
    assert stated is not None
    rates = [
        f"{round(one.tokens_per_second / 1000, -1 if one.tokens_per_second > 1e6 else 0):,.0f}"
        for one in (first, second)
    ]
    largest = ", ".join(first.largest.split(", ")[:3])
    return (
        f"| {size} | {member} | {shape.rows} x {shape.context} | {rates[0]} | {rates[1]} | "
        f"{stated.tokens_per_second / 1000:,.0f} | {largest} |"
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_table_of_the_page_is_what_the_model_computes(size: str) -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line(size, member) for member in ("encoder", "decoder")] == [
        one for one in lines if one.startswith(f"| {size} |")
    ]


def test_every_part_grows_with_its_cause() -> None:
    model, gpu = ModelConfig(50_368, 256, 7, 4, 384), known_gpu("NVIDIA H100 80GB HBM3")
    assert gpu is not None and gpu.name == "H100" and known_gpu("NVIDIA H100 PCIe").name == "H100 PCIe"  # type: ignore[union-attr]
    shape = StepShape(64, 1024, 2**20, 0.3)
    base = predict(model, "bidirectional", shape, gpu)

    def grown(**changes: float) -> dict[str, float]:
        other = predict(model, "bidirectional", replace(shape, **changes), gpu)  # type: ignore[arg-type]
        return {name: other.parts[name] / seconds for name, seconds in base.parts.items()}

    assert [name for name, ratio in grown(scored=0.6).items() if ratio > 1.9] == ["head's products", "softmax"]
    assert [name for name, ratio in grown(context=8192, rows=8).items() if ratio > 2] == ["attention"]
    assert grown(step_tokens=2**30)["update"] < 1
    causal = predict(model, "causal", shape, gpu)
    assert causal.parts["attention"] < 0.7 * base.parts["attention"]
    wide = predict(replace(model, hidden_size=512, num_heads=8), "bidirectional", shape, gpu)
    assert base.tokens_per_second / 4 < wide.tokens_per_second < base.tokens_per_second / 1.5
    alone = predict(model, "bidirectional", replace(shape, rows=1, context=128), gpu)
    assert alone.tokens_per_second == 1 / alone.launches, "a small micro-batch is bound by its launches"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gib", [1, 8, 32])
def test_micro_batches_fit_and_divide(size: str, gib: int) -> None:
    run, placement = published(size, "encoder")
    placement = replace(placement, activation_gib=gib)
    for phase in run.phases:
        for rows in phase.batches.sizes:
            count = micro_batch_count(run, placement, rows, phase.context, 4)
            assert rows % (4 * count) == 0
            part = rows // 4 // count
            assert part == 1 or estimate_memory(run, part, phase.context, 0.3).activations <= gib * 2**30
            assert part == 1 or part * phase.context <= 2**17
    assert micro_batch_count(run, replace(placement, micro_rows=4), 64, 1024, 4) == 4, "what is asked for counts"
    with pytest.raises(ValueError, match="does not divide into 7 processes"):
        micro_batch_count(run, placement, 64, 1024, 7)


def test_a_low_rate_gets_its_cause(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    assert expected_rate(run, PLACEMENT, 1, "cpu") is None
    found = expected_rate(run, PLACEMENT, 2, "NVIDIA H200")
    assert found is not None
    expected, text = found
    assert text.startswith("expected on 2 x H200: ") and "never measured" in text and expected.low < expected.high
    assert expected.cause(expected.low, 1.0) is None
    cause = expected.cause(expected.low / 2, 0.25)
    assert cause is not None and "25% of the time is spent waiting for batches: raise placement.workers" in cause
    for suspect in ("placement.compile=true", "the precision is fp32", "8 x 48 tokens are too small"):
        assert (suspect.replace("8 x", "4 x")) in cause
    assert UNEXPLAINED in str(ExpectedRate(10.0, 20.0).cause(1.0, 0.0))
    assert "not compiled" not in str(expected_rate(run, GPU, 1, "H100"))
