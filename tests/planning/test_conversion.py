"""Conversions as runs with a parent: every member, full weights or an adapter, from either side of the decay, any budget."""

import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.suite import evaluate, open_model
from ettin_core.evaluation.suite_config import SuiteConfig
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.storage import canonical_json, hash_text, read_json, write_json
from ettin_core.foundation.strict_config import build
from ettin_core.model.adapter import add_adapter, trained
from ettin_core.model.config import AdapterConfig
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.config import ObjectiveConfig
from ettin_core.optim.build import build_optimizer
from ettin_core.optim.config import MuonConfig
from ettin_core.pairs.audit import certify
from ettin_core.pairs.contract import Contract
from ettin_core.planning.conversion import Conversion, parent_weights
from ettin_core.planning.forecast import forecast
from ettin_core.planning.run_plan import MemberConfig, open_run
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from ettin_core.training.loop import train
from ettin_core.training.parents import Parent
from ettin_core.training.phases import PhaseRecipe, RecipeConfig
from ettin_core.training.setup import open_session
from experiments.export import export_run
from experiments.views.dry_run import describe
from tests.runs import PLACEMENT, final_state, tiny_run, train_tiny

ROOT = Path(__file__).resolve().parents[2]
LORA = AdapterConfig(rank=4, alpha=8)
RECIPE = RecipeConfig(
    0, {"conversion": PhaseRecipe(1.0, 80, 8, "convert", mask_rate=0.2, rope_base_global=160_000.0)}, max_epochs=9.0
)


def member(name: str) -> MemberConfig:
    """A file of conf/member."""
    return build(MemberConfig, yaml.safe_load((ROOT / f"conf/member/{name}.yaml").read_text()))


def conversion(name: str = "dec-from-enc", **changes: Any) -> Conversion:
    """To a member for a fifth of the parent's tokens, five steps or two."""
    values = {"recipe": RECIPE, "budget": 0.5, "seed": 210, "checkpoint": CheckpointConfig(every_steps=2)}
    return Conversion(member(name), **(values | changes))


@dataclass(frozen=True)
class Trained:
    """A corpus, a folder of runs, and two complete parents in it."""

    corpus: Corpus
    runs: Path
    parents: dict[str, RunConfig]

    def folder(self, run: RunConfig) -> RunFolder:
        return RunFolder(self.runs / run.name)

    def named(self, what: Conversion, parent: RunConfig | str = "encoder") -> RunConfig:
        run = self.parents[parent] if isinstance(parent, str) else parent
        return what.of(run, self.folder(run))

    def converted(self, run: RunConfig, root: Path | None = None, stop_after: int | None = None) -> RunFolder:
        folder = RunFolder((root or self.runs) / run.name)
        train(run, folder, self.corpus, PLACEMENT, ProcessGroup(), parent_weights(run, self.runs), stop_after)
        return folder


@pytest.fixture(scope="module")
def lab(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    runs = tmp_path_factory.mktemp("runs")
    parents = {name: tiny_run(corpus, name) for name in ("encoder", "decoder")}
    for run in parents.values():
        train_tiny(run, runs, corpus)
    return Trained(corpus, runs, parents)


WAYS = {
    "dec-from-enc": ("encoder", ("causal", "clm")),
    "dec-from-enc-mntp": ("encoder", ("causal", "clm")),
    "prefix-from-enc": ("encoder", ("causal", "clm")),
    "enc-from-dec": ("decoder", ("bidirectional", "mlm")),
    "enc-from-dec-mntp": ("decoder", ("bidirectional", "mntp")),
}


@pytest.mark.parametrize("adapter", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("name", WAYS)
def test_every_way_is_a_run_with_a_parent(name: str, adapter: AdapterConfig | None, lab: Trained) -> None:
    parent, readout = WAYS[name]
    run = lab.named(conversion(name, adapter=adapter), parent)
    folder = lab.converted(run)
    summary, start = folder.summary(), lab.folder(lab.parents[parent]).summary()
    assert (summary["direction"], summary["objective"]) == readout
    assert summary["parent"] == start["run"] and summary["initial_weights"] == start["final_weights"]
    assert summary["tokens"] == run.tokens == 6 * 8 * 80
    assert summary["parameters"] == start["parameters"] == start["trained_parameters"]
    assert summary["trained_parameters"] == (run.adapter_parameters if adapter else summary["parameters"])
    weights = native.load(folder.checkpoints / summary["final_checkpoint"], run.name).model
    assert native.hash_tensors(weights) == summary["final_weights"] != summary["initial_weights"]
    before = parent_weights(run, lab.runs)
    assert before is not None and weights.keys() == before.keys()
    frozen = {key for key in weights if torch.equal(weights[key], before[key])}
    assert frozen == ({key for key in weights if weights[key].ndim == 1 or "embedding" in key} if adapter else set())
    printed = describe(forecast(run, PLACEMENT, lab.corpus))
    assert f"parent      {start['run']} at decay5" in printed and ("rank 4, alpha 8" in printed) == bool(adapter)
    assert forecast(run, PLACEMENT, lab.corpus).phases[0].flops == pytest.approx(summary["flops"], rel=0.1)


def test_both_members_have_the_same_adapter(lab: Trained) -> None:
    names, counts = [], []
    for name, parent in (("dec-from-enc", "encoder"), ("enc-from-dec", "decoder")):
        folder = lab.converted(lab.named(conversion(name, adapter=LORA), parent))
        stored = load_file(folder.checkpoints / "convert6" / "optimizer.safetensors")
        names.append({key: value.shape for key, value in stored.items()})
        counts.append(folder.summary()["trained_parameters"])
    assert names[0] == names[1] and counts[0] == counts[1] == sum(
        shape.numel() for key, shape in names[0].items() if key.endswith("/value")
    )


@pytest.mark.parametrize("stop", [1, 3])
def test_an_adapter_resumes_exactly(stop: int, lab: Trained, tmp_path: Path) -> None:
    run = lab.named(conversion(adapter=LORA))
    lab.converted(run, tmp_path, stop_after=stop)
    assert final_state(lab.converted(run, tmp_path)) == final_state(lab.converted(run))


def test_a_killed_adapter_resumes_exactly(lab: Trained, tmp_path: Path) -> None:
    run = lab.named(conversion(adapter=LORA, budget=1.0, checkpoint=CheckpointConfig(every_steps=1)))
    folder = RunFolder(tmp_path / run.name)
    child = multiprocessing.get_context("fork").Process(target=lab.converted, args=(run, tmp_path))
    child.start()
    while not list(folder.checkpoints.glob("convert[3-9]")):
        assert child.is_alive()
    child.kill()
    child.join()
    assert not folder.complete
    assert final_state(lab.converted(run, tmp_path)) == final_state(lab.converted(run))


def test_an_exported_adapter_has_the_logits_that_were_trained(lab: Trained, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = lab.named(conversion(adapter=LORA))
    folder = lab.converted(run)
    live = Transformer(run.model, attention="reference")
    live.load_state_dict(parent_weights(run, lab.runs) or {})
    add_adapter(live, LORA, seed=99)
    checkpoint = native.load(folder.checkpoints / folder.summary()["final_checkpoint"], run.name)
    checkpoint.restore_trained(live, build_optimizer(run.optimizer, live, run.top_rate))
    out = export_run(folder.path, tmp_path / "hf", lab.corpus.folder.parent)
    theirs = AutoModelForCausalLM.from_pretrained(out)
    assert run.parent is not None
    assert read_json(out / "ettin.json")["parent"] == {"run": run.parent.run, "checkpoint": run.parent.checkpoint}
    assert f"base_model: {run.parent.run}\n" in (out / "README.md").read_text()
    tokens = torch.randint(8, 900, (1, 70), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(70)[None]
    with torch.no_grad():
        ours = live.logits(live(tokens, positions * 0, positions, run.phases[-1].attention("causal")))
        assert max(float(value.abs().max()) for name, value in trained(live).items() if ".lora_B." in name) > 1e-4
        torch.testing.assert_close(theirs(input_ids=tokens).logits, ours, rtol=1e-4, atol=1e-5)


def contract() -> Contract:
    return build(Contract, yaml.safe_load((ROOT / "conf/pair/conversion.yaml").read_text()))


@pytest.mark.parametrize("budget", [0.0, 0.5])
def test_before_the_decay_is_the_end_of_the_phase_before(budget: float, lab: Trained) -> None:
    parent = lab.parents["encoder"]
    run = lab.named(conversion(start="before_decay", budget=budget))
    early = native.load(lab.folder(parent).checkpoints / "step12").model
    assert run.parent is not None and (run.parent.checkpoint, run.parent.weights) == (
        "step12",
        native.hash_tensors(early),
    )
    assert run.name != lab.named(conversion(budget=budget)).name
    summary = lab.converted(run).summary()
    assert summary["initial_weights"] == run.parent.weights
    certificate = certify(contract(), parent, run, lab.folder(parent), lab.folder(run))
    assert certificate.verdict == "matched except", certificate.sentence()
    later = replace(run, parent=replace(run.parent, checkpoint="decay5"))
    broken = certify(contract(), parent, later, lab.folder(parent), lab.folder(run))
    assert "initial_weights" in broken.sentence() and broken.verdict == "not matched"


def under_an_older_name(folder: RunFolder, root: Path) -> RunFolder:
    """A copy of a complete run as it would be if its name had been made by older code."""
    older = RunFolder(root / f"{folder.name.rpartition('-')[0]}-0123456789")
    shutil.copytree(folder.path, older.path)
    older.finish(folder.summary() | {"run": older.path.name})  # by which a complete run is known
    for file in older.checkpoints.glob("*/index.json"):
        index = {key: value for key, value in read_json(file).items() if key != "self"} | {"identity": older.name}
        write_json(file, index | {"self": hash_text(canonical_json(index))})
    return older


def test_a_run_of_older_code_is_read_under_its_own_name(lab: Trained, tmp_path: Path) -> None:
    folder, run = open_run(str(under_an_older_name(lab.folder(lab.parents["encoder"]), tmp_path).path))
    assert run == lab.parents["encoder"] and folder.name != run.name
    child = conversion(start="before_decay").of(run, folder)
    assert child.parent == Parent(
        folder.name, "step12", native.hash_tensors(native.load(folder.checkpoints / "step12").model)
    )
    assert parent_weights(child, tmp_path) is not None
    same = replace(contract(), may_differ={}, initial_weights="equal")
    certificate = certify(same, lab.parents["encoder"], run, lab.folder(lab.parents["encoder"]), folder)
    assert (certificate.verdict, certificate.right) == ("matched", folder.name), certificate.sentence()
    hf = export_run(folder.path, tmp_path / "hf", lab.corpus.folder.parent, "step12")
    assert read_json(hf / "ettin.json")["run"] == folder.name


def test_without_a_budget_only_the_mask_is_exchanged(lab: Trained) -> None:
    parent = lab.parents["encoder"]
    flipped = {start: lab.named(conversion(budget=0, start=start)) for start in ("after_decay", "before_decay")}
    for start, before in (("after_decay", parent.phases[1]), ("before_decay", parent.phases[0])):
        (phase,) = flipped[start].phases
        assert (phase.steps, phase.tokens, phase.context) == (0, 0, before.context)
        assert phase.attention("causal") == before.attention("causal")
    run = flipped["after_decay"]
    folder = lab.converted(run)
    summary, source = folder.summary(), lab.folder(parent).summary()
    assert summary["final_weights"] == summary["initial_weights"] == source["final_weights"]
    assert [summary[name] for name in ("tokens", "loss_tokens", "flops")] == [0, 0, 0]
    assert folder.training() == [] and read_json(folder.data_order_file)["steps"] == {}
    assert [path.name for path in native.ordered(folder.checkpoints)] == ["convert0"]
    planned = forecast(run, PLACEMENT, lab.corpus)
    assert planned.phases[0].flops == 0 and planned.checkpoints.kept == ("convert0",) and "0 steps" in describe(planned)
    model, name, _ = open_model(run, folder, lab.corpus, None, "cpu")
    assert (name, model.view.direction, model.context) == ("convert0", "causal", 80)
    rows = evaluate(run, folder, lab.corpus, SuiteConfig(2000, 8, 8, None, 8192), device="cpu")
    assert rows and all(row.value is not None for row in rows if row.protocol == "heldout_clm")
    again = lab.converted(lab.named(conversion("enc-from-dec", budget=0), run))
    assert again.summary()["final_weights"] == source["final_weights"]


def test_a_merged_run_is_a_parent_like_any_other(lab: Trained) -> None:
    first = lab.named(conversion(adapter=LORA))
    lab.converted(first)
    second = lab.named(conversion("enc-from-dec-mntp", budget=1.0), first)
    summary = lab.converted(second).summary()
    assert summary["initial_weights"] == lab.folder(first).summary()["final_weights"]
    assert second.tokens == first.tokens and second.adapter is None


def test_a_plateau_step_decays_the_weights_as_much_as_in_pretraining(lab: Trained, tmp_path: Path) -> None:
    half = RecipeConfig(0, {"conversion": replace(RECIPE.phases["conversion"], learning_rate_factor=0.5)}, 9.0)
    parent, child = lab.parents["encoder"], lab.named(conversion(recipe=half))
    assert (parent.top_rate, child.top_rate) == (3e-3, 1.5e-3)
    left = []
    for run in (parent, child):
        start = parent_weights(run, lab.runs)
        session = open_session(run, RunFolder(tmp_path / run.name), lab.corpus, PLACEMENT, ProcessGroup(), start)
        weight = session.model.layers[0].mlp.output.weight
        before = weight.detach().norm()
        for _ in range(1000):
            weight.grad = torch.zeros_like(weight)
            session.update.apply(0.0, run.phases[0].learning_rate, ProcessGroup())
        left.append(float(weight.detach().norm() / before))
    assert left == pytest.approx([(1 - 3e-4) ** 1000] * 2, rel=1e-4)  # 0.741; half the decay would leave 0.861


def at_rate(rate: float, **changes: Any) -> RecipeConfig:
    """The recipe with another mask rate."""
    return replace(RECIPE, phases={"conversion": replace(RECIPE.phases["conversion"], mask_rate=rate, **changes)})


def test_another_share_or_rate_of_masks_is_another_member(lab: Trained) -> None:
    encoder, decoder = lab.parents["encoder"], lab.parents["decoder"]  # 0.15 of the tokens masked, 80/10/10
    as_before = conversion("enc-from-dec", recipe=at_rate(0.15))
    objective = as_before.member.objective
    for changed in ({"mask_share": 1.0, "random_share": 0.0}, {"random_share": 0.2}):
        member = replace(as_before.member, objective=replace(objective, **changed))
        assert replace(as_before, member=member).plan(encoder).objective == member.objective
    for recipe in (at_rate(0.3), at_rate(0.15, mask_rate_end=0.4)):
        assert replace(as_before, recipe=recipe).plan(encoder).recipe.phases == recipe.phases
    assert conversion("sparse-decoder").plan(decoder).objective.scored_share == 0.15
    same_text = replace(conversion("decoder").member, objective=ObjectiveConfig("clm", mask_share=0.5))
    for same in (conversion("decoder", recipe=at_rate(0.5)), replace(conversion("decoder"), member=same_text)):
        with pytest.raises(ValueError, match="already is"):  # a decoder masks nothing
            same.plan(decoder)
    with pytest.raises(ValueError, match="already is"):
        replace(as_before, recipe=at_rate(0.3), budget=0.0).plan(encoder)


REFUSED: dict[str, tuple[Callable[[], Conversion], str]] = {
    "no share": (lambda: conversion(budget=-0.1), r"budget=-0.1 is not a share"),
    "not a number": (lambda: conversion(budget=float("nan")), r"budget=nan is not a share"),
    "less than a step": (
        lambda: conversion(budget=0.01),
        r"budget=0.01 is 78 tokens, less than a step of 8 x 80; use 0.082",
    ),
    "an unknown start": (
        lambda: conversion(start="later"),
        r"start='later' is not a start.*use one of after_decay, before_decay",
    ),
    "nothing to train": (lambda: conversion(budget=0, adapter=LORA), r"adapter='lora' has no step"),
    "what it is": (
        lambda: conversion("enc-from-dec", recipe=at_rate(0.15)),
        r"member='enc-from-dec' is what tiny-encoder-\S+ already is",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_conversion_is_refused(case: str, lab: Trained) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make().plan(lab.parents["encoder"])


def test_parents_that_cannot_serve_are_refused(lab: Trained, tmp_path: Path) -> None:
    child = lab.named(conversion())
    lab.converted(child)
    with pytest.raises(ValueError, match=r"start='before_decay' needs a phase before the last, and tiny-dec-from-enc"):
        conversion("enc-from-dec", start="before_decay").plan(child)
    flip = lab.named(conversion(budget=0))
    with pytest.raises(
        ValueError, match="has no step of training, so a share of its tokens is not a budget; give tokens="
    ):
        conversion("enc-from-dec").plan(flip)
    run = lab.parents["encoder"]
    unfinished = train_tiny(run, tmp_path, lab.corpus, stop_after=13)
    with pytest.raises(ValueError, match=r"run='tiny-encoder-\S+' is not complete"):
        conversion(start="before_decay").of(run, unfinished)
    complete = train_tiny(run, tmp_path, lab.corpus)
    (complete.checkpoints / "step12").rename(tmp_path / "elsewhere")
    with pytest.raises(
        ValueError, match="start='before_decay' needs the checkpoint step12 of tiny-encoder-.* is missing"
    ):
        conversion(start="before_decay").of(run, complete)


def test_what_an_adapter_does_not_go_with_is_refused(lab: Trained, tmp_path: Path) -> None:
    run = lab.named(conversion(adapter=LORA))
    divided = replace(PLACEMENT, parallel="fsdp")
    with pytest.raises(ValueError, match="placement.parallel='fsdp' does not divide adapters"):
        train(run, RunFolder(tmp_path / run.name), lab.corpus, divided, ProcessGroup(), parent_weights(run, lab.runs))
    for change in ({"name": "muon", "muon": MuonConfig()}, {"qk_clip": 100.0}):
        with pytest.raises(ValueError, match="adapter='lora' does not go with optimizer"):
            replace(run, optimizer=replace(run.optimizer, **change))
