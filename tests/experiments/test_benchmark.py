"""The benchmark compares whole steps of the same computation, and says so where it is not the same."""

from pathlib import Path

import pytest
import torch

from ettin_core.foundation.storage import read_json_lines
from ettin_core.model.config import ModelConfig
from ettin_core.planning.sizes import SizeConfig
from experiments import benchmark
from experiments.benchmark import BenchmarkRequest, Row, compare, main
from experiments.benchmarks import turns
from experiments.benchmarks.steps import OURS, PEERS, Case, Side
from experiments.benchmarks.tools import anonymous_memory, most_memory

MODEL = ModelConfig(vocab_size=128, hidden_size=32, num_layers=4, num_heads=2, intermediate_size=48, local_window=8)
TINY = [
    *("size.hidden_size=32", "size.intermediate_size=48", "size.local_window=64", "vocab_size=64", "tokens=128"),
    *("contexts=[64]", "rounds=2", "memory=false"),
]


def case(member: str, document: int | None) -> Case:
    """Two rows of 64 of a member."""
    return Case(member, MODEL, 64, 2, document, 0.3, "cpu")


@pytest.mark.parametrize("document", [None, 20])
@pytest.mark.parametrize("member", ["encoder", "decoder"])
def test_all_sides_begin_with_one_loss_and_learn(member: str, document: int | None) -> None:
    losses = {}
    for name in (OURS, *PEERS[member]):
        step = Side(name, "fp32").step(case(member, document))
        losses[name] = [step() for _ in range(3)]
        assert losses[name][2] < losses[name][0]
    assert all(values[0] == pytest.approx(losses[OURS][0], abs=1e-5) for values in losses.values())


def test_a_side_that_computes_something_else_is_not_compared() -> None:
    with pytest.raises(RuntimeError, match="sparse in fp32 computes a loss of 3.5, not 3.0"):
        turns._check_losses({Side(OURS, "fp32"): 3.0, Side("sparse", "fp32"): 3.5})


def test_the_command_writes_a_row_for_each_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr("sys.argv", ["benchmark", *TINY, "documents=[null,20,64]", f"out={out}"])
    main()
    rows = read_json_lines(out)
    shapes = [(row["member"], row["shape"]) for row in rows]
    assert set(shapes) == {
        (peer, f"2 x 64, {layout}") for peer in PEERS for layout in ("one document a row", "documents of 20")
    }
    # of each of two layouts: our two precisions against those of an encoder's two peers and a decoder's one
    assert len(rows) == 2 * (2 * 2 * 2 + 2 * 2)
    for row in rows:
        assert 0 < row["low"] <= row["ratio"] <= row["high"] and 0 < row["share_of_matrix_rate"] < 1
        assert row["peak"] is None and row["machine"]["cpu"]
    assert capsys.readouterr().out.count("thread(s)") == 4


def request(**changes: object) -> BenchmarkRequest:
    """A small request."""
    size = SizeConfig("tiny", None, 4, 32, 48, 2, 1e-3, 1e-3, 0.1, 0.0, 1, 0.0)
    values: dict[str, object] = {
        **{"size": size, "members": ("encoder",), "contexts": (64,), "documents": (None,), "tokens": 128},
        **{"vocab_size": 64, "mask_rate": 0.3, "precisions": ("fp32",), "threads": (1,), "rounds": 3},
        **{"memory": False, "device": "cpu", "attention": "auto", "compile": False, "out": None},
    }
    return BenchmarkRequest(**(values | changes))  # type: ignore[arg-type]


def test_ratios_are_of_one_turn_and_shares_of_that_turns_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is three times slower in one turn, in all that it does, moves neither ratio nor share."""
    seconds = {OURS: [1.0, 3.0, 1.0], "sparse": [2.0, 6.0, 2.0], "default": [4.0, 12.0, 4.0]}
    rates = {"fp32": [3e9, 1e9, 3e9]}
    monkeypatch.setattr(
        benchmark, "in_turns", lambda case, sides, rounds: ({side: seconds[side.name] for side in sides}, rates)
    )
    asked = request()
    (benchmark_case,) = asked.cases()
    rows: list[Row] = compare(asked, benchmark_case, 1)
    assert [(row.ratio, row.low, row.high) for row in rows] == [(2.0, 2.0, 2.0), (4.0, 4.0, 4.0)]
    assert rows[0].share_of_matrix_rate == pytest.approx(benchmark_case.flops() / 3e9)
    assert rows[0].tokens_per_second == 128 and rows[1].peer_tokens_per_second == 32


@pytest.mark.parametrize(
    ("field", "value"),
    [("members", ("both",)), ("precisions", ("fp8",)), ("contexts", ()), ("documents", (1,)), ("attention", "flash"),
     ("rounds", 0)],
)  # fmt: skip
def test_a_request_that_cannot_be_names_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}="):
        request(**{field: value})


def test_memory_is_the_most_that_was_held() -> None:
    held = anonymous_memory()
    large = torch.ones(64, 2**20)
    del large
    assert most_memory() >= held + 64 * 2**20 or held == 0
