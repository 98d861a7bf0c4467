"""Forecasts against what then happens, the plan of the published grid, and plans that raise errors."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis.plan_figure import schedules, tokens_text
from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.plan import expected_ids
from ettin_core.data.tokenizer import train
from ettin_core.foundation.errors import UserError
from ettin_core.model.accounting import activation_bytes
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from ettin_core.optim.config import MuonConfig
from ettin_core.planning import measured_rate as rates
from ettin_core.planning.forecast import Forecast, Machine, forecast
from ettin_core.planning.plan_checks import rope_reach
from ettin_core.planning.throughput import throughput
from ettin_core.requests.compose import composed, configurations
from ettin_core.requests.train import TrainRequest
from ettin_core.training.config import PlacementConfig, RunConfig
from ettin_core.training.memory import estimate_memory
from experiments.plan import PlanRequest, plan_size
from experiments.views.dry_run import describe, dry_run, timed
from experiments.views.plan_table import amount
from tests import processes
from tests.runs import PLACEMENT, tiny_run, train_tiny


def request(*overrides: str) -> TrainRequest:
    """A training as composed."""
    with configurations():
        return composed("train", TrainRequest, overrides)


def planned(*overrides: str) -> RunConfig:
    """A run on a corpus that is not there."""
    asked = request(*overrides)
    return asked.parts.planned(asked.member, asked.data.vocab_size, "none", "none")


@pytest.mark.parametrize(("member", "packing"), [("encoder", "stream"), ("decoder", "stream"), ("decoder", "off")])
def test_a_forecast_comes_true(corpus: Corpus, tmp_path: Path, member: str, packing: str) -> None:
    run = tiny_run(corpus, member)
    phases = {name: replace(phase, packing=packing) for name, phase in run.recipe.phases.items()}
    run = replace(run, recipe=replace(run.recipe, phases=phases, max_epochs=100))
    expected = forecast(run, PLACEMENT, corpus)
    folder = train_tiny(run, tmp_path, corpus)
    summary = folder.summary()
    assert sum(expected.parameters.values()) == summary["parameters"]
    near = 0.005 if (member, packing) == ("decoder", "stream") else 0.05  # masks and lengths of rows are sampled
    assert sum(phase.text_tokens for phase in expected.phases) == pytest.approx(summary["tokens"], rel=near)
    assert sum(phase.loss_tokens for phase in expected.phases) == pytest.approx(summary["loss_tokens"], rel=near)
    assert sum(phase.flops for phase in expected.phases) == pytest.approx(summary["flops"], rel=near)
    kept = {path.name for path in folder.checkpoints.iterdir() if not path.name.startswith(".")}
    assert set(expected.checkpoints.kept) <= kept
    assert len(kept) == len(expected.checkpoints.kept) + expected.checkpoints.temporary
    tensors = sum(file.stat().st_size for file in (folder.checkpoints / "decay5").glob("*.safetensors"))
    assert expected.checkpoints.bytes_each == pytest.approx(tensors, rel=0.15)  # a tiny model: names weigh as well
    last = expected.phases[-1]
    assert last.repeats == run.phases[-1].loader(corpus, run.seeds.order).repeats(last.steps * last.batches.rows)


def test_checkpoints_follow_the_rule(corpus: Corpus) -> None:
    run = replace(tiny_run(corpus), checkpoint=CheckpointConfig(every_steps=4, keep_every_tokens=1920))
    # Phases of 12 steps of 384 and 5 of 640 tokens. Written: 0; 4 5 8 10 12; 3 4 5. The newest two of 4, 8 and 4 stay.
    planned = forecast(run, PLACEMENT).checkpoints
    assert planned.kept == ("step0", "step5", "step10", "step12", "decay3", "decay5")
    assert (planned.written, planned.temporary) == (9, 2)


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_are_those_that_autograd_keeps(bf16: bool) -> None:
    """Bytes that three layers more keep, for rows so short that the attention's mask weighs nothing."""
    rows, length = 5, 15
    shape = ModelConfig(1000, 256, 1, 4, 384)
    kept = [_saved_bytes(replace(shape, num_layers=layers), rows, length, bf16) for layers in (1, 4)]
    formula = activation_bytes(replace(shape, num_layers=3, global_every=1), 2 if bf16 else 4) * rows * length
    assert formula == pytest.approx(kept[1] - kept[0], rel=0.03)
    dropout = replace(shape, attention_output_dropout=0.1)
    assert activation_bytes(dropout, 4) - activation_bytes(shape, 4) == 256


def _saved_bytes(shape: ModelConfig, rows: int, length: int, bf16: bool) -> int:
    model = Transformer(shape, attention="sdpa")
    weights = {tuple(parameter.shape) for parameter in model.parameters()}
    weights |= {each[::-1] for each in weights}  # autocast keeps copies of them, whatever the number of tokens
    storages: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in weights:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    tokens, index = torch.zeros(rows, length, dtype=torch.long), torch.arange(length).expand(rows, length)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        states = model(tokens, tokens, index, AttentionSpec("bidirectional"))
    assert states.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def test_memory_by_hand() -> None:
    run = planned("size=17m", "recipe=three_phases", "precision=bf16")
    memory = estimate_memory(run, rows=16, context=1024, scored_share=0.25)
    parameters, tokens, scored = 16_913_600, 16 * 1024, 4096
    assert (memory.weights, memory.gradients, memory.optimizer) == (6 * parameters, 4 * parameters, 8 * parameters)
    per_token = 7 * (8 * 256 + 2 * (9 * 256 + 4 * 384)) + 16 * 256
    assert memory.activations == tokens * per_token
    assert memory.loss == scored * 18 * 256 + 4096 * 50368 * 6 + 4 * 50368 * 256
    assert memory.total == memory.activations + memory.loss + 18 * parameters


def test_rates_of_the_published_system() -> None:
    known, stated = throughput("17m", None), throughput("nano", 2000.0)
    assert known is not None and stated is not None
    assert known.tokens_per_second == pytest.approx(985_028, rel=1e-6)  # 2T tokens in 141 hours on 4 GPUs
    assert "published system" in known.source and "H100" in known.source
    assert stated.gpu_hours(7.2e6) == 1.0 and stated.source == "as given"
    assert throughput("nano", None) is None
    with pytest.raises(UserError, match="tokens_per_second=0.0 is not a rate"):
        throughput("17m", 0.0)


def test_a_dry_run_without_a_corpus_prepares_nothing(tmp_path: Path) -> None:
    text = dry_run(
        request(
            "size=1b",
            "recipe=published",
            "data=ettin",
            f"data.path={tmp_path / 'nowhere'}",
            f"corpora_dir={tmp_path / 'corpora'}",
            "placement=gpu",
            "precision=bf16",
        )
    )
    assert "corpus      not prepared" in text and "passes over sources unknown" in text
    assert "not checked without a corpus: passes over sources" in text and "with padding there are fewer tokens" in text
    assert "pretrain    120,092 steps of 4608 x 1024 = 566,665,150,464 tokens" in text
    assert "step0, step120092, ext2261, decay452" in text and "published system" in text
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_in_the_corpus_that_is_there(
    corpus: Corpus, corpora_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["data.documents=1500", "data.vocab_size=1024", "data.tokenizer_sample_mb=32", "recipe=smoke"]
    options.append(f"corpora_dir={corpora_dir}")
    text = dry_run(request(*options, "machine.tokens_per_second=10"))
    assert f"corpus      {corpus.name}  fingerprint {corpus.fingerprint[:16]}" in text
    assert "100% of the row positions hold text, passes over sources: world 0." in text
    assert "minutes at 10 tokens/s of each: as given" in text and "not checked" not in text
    monkeypatch.setattr(rates, "SECONDS", 0.05)
    unprepared = dry_run(request(*options, "data.documents=1400"))
    assert "not prepared with these options" in unprepared and "of each: an estimate, from 0." in unprepared
    with pytest.raises(UserError, match="recipe.tokens=4000000 passes .* more than recipe.max_epochs"):
        dry_run(request(*options, "recipe.tokens=4e6"))


def test_a_plan_without_a_corpus_has_a_row_for_every_id_of_a_given_tokenizer(tmp_path: Path) -> None:
    train(["a few words to train a tokenizer on"], 300, tmp_path)
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    names = values["model"]["vocab"]
    values["model"]["vocab"] = {token: id_ + 70_000 * (id_ == max(names.values())) for token, id_ in names.items()}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    asked = request("recipe=smoke", f"data.tokenizer={tmp_path}", f"corpora_dir={tmp_path / 'none'}")
    assert expected_ids(asked.data) == 70_000 + max(names.values()) + 1
    assert "the tokenizer against 70336 ids" in dry_run(asked)


def test_passes_are_added_up_over_phases(corpus: Corpus, corpora_dir: Path) -> None:
    options = ["data.documents=1500", "data.vocab_size=1024", "data.tokenizer_sample_mb=32", "recipe=smoke"]
    options += [f"corpora_dir={corpora_dir}", f"recipe.tokens={corpus.tokens('world', 'train') * 5 // 2}"]
    text = dry_run(request(*options))  # 1.5, 0.5 and 0.5 passes
    assert "passes      over sources in all phases: world 2.50; at most 4 (recipe.max_epochs)" in text
    assert "passes over sources: world 1.50" in text
    message = (
        r"passes 2\.5 times over source 'world' \(\d+ tokens; pretrain 1\.5, extension 0\.5, decay 0\.5\), more than"
    )
    with pytest.raises(UserError, match=f"{message} recipe.max_epochs=2.0"):
        dry_run(request(*options, "recipe.max_epochs=2.0"))


REFUSED = {
    "a warm-up longer than its phase": (
        ["recipe.phases.pretrain.warmup_share=0.8", "recipe.phases.pretrain.decay_share=0.3"],
        "warmup_share=.*longer than the phase",
    ),
    "a warm-up that is no share": (
        ["recipe.phases.pretrain.warmup_share=3e9"],
        "recipe.phases.pretrain.warmup_share=.*is not a share",
    ),
    "a phase without a step": (["recipe.tokens=1000"], "recipe.tokens=1000 gives phase .* no step"),
    "a batch that does not divide": (["placement.micro_rows=3"], "batch_rows=8 does not divide"),
    "a context beyond the rotary base": (
        ["recipe.phases.pretrain.rope_base_global=5"],
        r"recipe.phases.pretrain.context=64 has keys 64 tokens away, beyond the 30 tokens that rope_base_global=5",
    ),
    "a window beyond the rotary base": (
        ["recipe.phases.decay.rope_base_local=5"],
        "recipe.phases.decay.rope_base_local=5.0 has keys 64 tokens away",
    ),
    "a rule that keeps no checkpoint": (
        ["checkpoint.keep_every_tokens=1e6"],
        r"checkpoint.keep_every_tokens=1000000 is reached in no phase \(the longest has 11,776 tokens\)",
    ),
    "a departure in a phase there is not": (
        ["+size.departures=[{sizes: [nano], members: [encoder], phase: warmup, values: {}}]"],
        "size.departures.phase='warmup' is not a phase; use one of pretrain, extension, decay",
    ),
    "a departure in a value there is not": (
        ["+size.departures=[{sizes: [nano], members: [encoder], phase: decay, values: {rope_base: 1}}]"],
        "recipe.phases.decay.rope_base.*is an unknown key",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_before_training(case: str, tmp_path: Path) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        dry_run(request("recipe=smoke", f"corpora_dir={tmp_path}", *overrides))


def test_the_reach_of_a_rotary_base() -> None:
    # Head size 64: the slowest pair turns once in 2 pi 10000^(62/64) = 2 pi x 7498.9 = 47,117 tokens.
    assert rope_reach(10_000.0, 64) == pytest.approx(47_117, rel=1e-4)
    assert planned("size=17m", "recipe=published").phases[1].context < rope_reach(10_000.0, 64)


def test_the_published_grid_is_planned(tmp_path: Path) -> None:
    done = processes.run(tmp_path, "experiments.plan")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "outputs" / "plan"
    with (out / "plan.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["size"], row["member"], row["phase"]) for row in rows}) == len(rows) == 48
    large = next(row for row in rows if row["size"] == "1b" and row["phase"] == "extension")
    assert (int(large["steps"]), float(large["final_rate"])) == (2261, 2.5e-4)
    assert float(large["gpu_hours"]) == pytest.approx(int(large["tokens"]) / 2e12 * 2170 * 4, rel=1e-6)
    text = (out / "plan.txt").read_text()
    assert text.strip() in done.stdout
    assert text.count(" are matched except ") == 18 and "not matched" not in text
    assert {path.name for path in out.glob("schedules.*")} == {
        "schedules.csv",
        "schedules.png",
        "schedules.pdf",
    }
    picture = schedules(out / "schedules.csv")
    assert [axes.get_title(loc="left") for axes in picture.figure.axes] == [
        "Warm-up",
        "Pre-training",
        "Extension",
        "Decay",
        "Conversion",
    ]
    assert all(len(axes.lines) == 6 for axes in picture.figure.axes)
    pd.DataFrame({"tokens": [1], "loss": [2]}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ValueError, match="other.csv is not a table of a plan's schedules"):
        schedules(tmp_path / "other.csv")


def test_a_plan_of_what_was_published_is_not_matched(tmp_path: Path) -> None:
    done = processes.run(tmp_path, "experiments.plan", "recipe=published", "sizes=[17m,150m]", "figure=false")
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stdout.splitlines() if "encoder and decoder" in line]
    assert "not matched: recipe.phases.decay.rope_base_local: 160000.0 against 10000.0" in lines[0]
    assert "matched except" in lines[1]


def test_sizes_that_are_not_there() -> None:
    with configurations():
        request = composed("plan", PlanRequest, [])
        with pytest.raises(UserError, match="size='17n' is not there; did you mean '17m'"):
            plan_size(request, "17n", [])
        with pytest.raises(UserError, match=r"size='17m' is set for each cell; use sizes=\[17m\]"):
            plan_size(request, "17m", ["size=32m"])


def test_amounts_as_people_say_them() -> None:
    assert [amount(number) for number in (566_665_150_464, 1.7e12, 19_968, 12)] == ["566.7B", "1.7T", "19.97k", "12"]
    assert [tokens_text(number) for number in (0, 2e9, 1.2e12)] == ["0", "2B", "1.2T"]


def test_a_plan_needs_no_device() -> None:
    expected: Forecast = forecast(
        planned("size=17m", "recipe=three_phases"), PlacementConfig(device="cuda", micro_rows=16)
    )
    assert {phase.memory.rows for phase in expected.phases} == {16}
    assert expected.corpus is None and all(phase.repeats is None for phase in expected.phases)


def test_memory_of_one_of_several() -> None:
    run = planned("size=17m", "recipe=three_phases", "precision=bf16")
    parameters, layer = 16_913_600, 4 * 256**2 + 3 * 256 * 384
    memory = estimate_memory(run, 16, 1024, 0.25, shards=8)
    assert (memory.gradients, memory.optimizer) == (4 * parameters // 8, 8 * parameters // 8)
    assert memory.weights == 4 * parameters // 8 + 4 * (parameters - 6 * layer)
    recomputed = estimate_memory(run, 16, 1024, 0.25, recompute=True)
    per_token = 8 * 256 + 2 * (9 * 256 + 4 * 384) + 7 * 4 * 256 + 16 * 256
    assert recomputed.activations == 16 * 1024 * per_token
    muon = replace(run, optimizer=replace(run.optimizer, name="muon", muon=MuonConfig(0.95)))
    assert estimate_memory(muon, 16, 1024, 0.25).optimizer == 8 * parameters - 4 * 7 * layer


def test_processes_that_cannot_hold_the_model_are_named_with_what_would() -> None:
    """1b in fp32: P = 1,028,114,176... weights, gradients and two moments are 16 P = 15.4 GiB."""
    run = planned("size=1b", "recipe=three_phases")
    forecast(run, PlacementConfig(), machine=Machine(memory_gib=16))
    with pytest.raises(UserError, match=r"ddp over 4 processes.*needs 15\.\d GiB .* size 1b and has 12 GiB; .*fsdp"):
        forecast(run, PlacementConfig(), machine=Machine(gpus=4, memory_gib=12))
    fsdp = PlacementConfig(parallel="fsdp")
    forecast(run, fsdp, machine=Machine(gpus=4, memory_gib=12))
    with pytest.raises(UserError, match=r"fsdp over 4 processes.* and has 4 GiB; start 8 processes or more"):
        forecast(run, fsdp, machine=Machine(gpus=4, memory_gib=4))
    with pytest.raises(UserError, match=r"larger devices"):
        forecast(run, fsdp, machine=Machine(gpus=4, memory_gib=0.1))


def test_a_batch_is_divided_over_the_planned_gpus() -> None:
    run = planned("size=17m", "recipe=three_phases", "precision=bf16")
    with pytest.raises(UserError, match=r"batch_rows=1152 does not divide into 5 processes"):
        forecast(run, PlacementConfig(), machine=Machine(gpus=5))
    expected = forecast(run, PlacementConfig(micro_rows=16), machine=Machine(gpus=8))
    assert expected.phases[0].memory.rows == 16 and "70.5 hours on 8 GPUs, 564 GPU-hours" in describe(expected)


def test_a_rate_is_measured_for_this_machine_only(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(corpus)
    monkeypatch.setattr(rates, "SECONDS", 0.05)
    here, elsewhere = (timed(forecast(run, PLACEMENT, machine=Machine(gpus)), PLACEMENT) for gpus in (1, 2))
    assert here.throughput is not None and here.throughput.tokens_per_second > 0 and elsewhere.throughput is None
    assert "minutes at " in describe(here) and "unknown: no rate was measured" in describe(elsewhere)
    monkeypatch.setattr(rates, "MOST_PARAMETERS", 1)
    assert rates.measured(run, PLACEMENT) is None
