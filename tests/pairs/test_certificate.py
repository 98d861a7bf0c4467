"""The certificate: it passes a matched pair and catches every planted difference."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ettin_core.data.corpus import Corpus
from ettin_core.data.loader import Batch, Loader
from ettin_core.foundation.storage import read_json, write_json
from ettin_core.model import transformer
from ettin_core.pairs.audit import MATCHED, MATCHED_EXCEPT, NOT_MATCHED, TO_ROUNDING, audit, certify
from ettin_core.pairs.contract import Contract
from ettin_core.pairs.rounding import measure
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from tests.runs import PLACEMENT, tiny_run, train_tiny

CONTRACT = Contract(
    "encoder_decoder",
    {"member": "names", "direction": "one half of what is compared", "objective.name": "the other half"},
    "equal",
    ("fingerprint", "tokenizer", "parameters", "tokens", "data_hash", "sessions"),
    ("loss_tokens", "flops", "seconds"),
)


@pytest.fixture(scope="module")
def pair(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RunConfig, RunFolder]]:
    """A trained encoder and decoder."""
    root = tmp_path_factory.mktemp("pairs")
    runs = [tiny_run(corpus, member) for member in ("encoder", "decoder")]
    return [(run, train_tiny(run, root, corpus)) for run in runs]


def test_a_matched_pair_passes(pair: list[tuple[RunConfig, RunFolder]]) -> None:
    (left, left_folder), (right, right_folder) = pair
    certificate = certify(CONTRACT, left, right, left_folder, right_folder)
    assert certificate.verdict == MATCHED_EXCEPT
    assert {item["field"] for item in certificate.differences} == {"member", "direction", "objective.name"}
    assert certificate.evidence["initial_weights"]["equal"]
    assert certificate.evidence["data_order"]["equal"]
    assert not certificate.evidence["loss_tokens"]["equal"]  # reported, not required


def test_a_run_matches_itself(pair: list[tuple[RunConfig, RunFolder]]) -> None:
    run, _ = pair[0]
    assert audit(CONTRACT, run, run).verdict == MATCHED


def planted(run: RunConfig) -> dict[str, RunConfig]:
    """The decoder with one thing changed that no contract allows."""
    phases = run.recipe.phases
    other_base = phases | {"decay": replace(phases["decay"], rope_base_local=160_000.0)}
    shorter = phases | {
        "pretrain": replace(phases["pretrain"], share=0.5),
        "decay": replace(phases["decay"], share=0.5),
    }
    return {
        "seeds.initialisation": replace(run, seeds=replace(run.seeds, initialisation=22)),
        "seeds.order": replace(run, seeds=replace(run.seeds, order=22)),
        "optimizer.learning_rate": replace(run, optimizer=replace(run.optimizer, learning_rate=1e-3)),
        "recipe.phases.decay.rope_base_local": replace(run, recipe=replace(run.recipe, phases=other_base)),
        "recipe.phases.pretrain.share": replace(run, recipe=replace(run.recipe, phases=shorter)),
        "recipe.tokens": replace(run, recipe=replace(run.recipe, tokens=run.recipe.tokens - 640)),
        "fingerprint": replace(run, fingerprint="0" * 64),
        "precision": replace(run, precision="bf16"),
        "model.local_window": replace(run, model=replace(run.model, local_window=15)),
    }


@pytest.mark.parametrize("field", range(9))
def test_a_planted_difference_of_configuration_is_caught(field: int, pair: list[tuple[RunConfig, RunFolder]]) -> None:
    (encoder, _), (decoder, _) = pair
    name, changed = list(planted(decoder).items())[field]
    certificate = audit(CONTRACT, encoder, changed)
    assert certificate.verdict == NOT_MATCHED
    assert any(violation.startswith(name) for violation in certificate.violations)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data_hash", "another"),
        ("initial_weights", "another"),
        ("tokenizer", "another"),
        ("tokens", 1),
        ("parameters", 1),
        ("sessions", None),
        ("fingerprint", None),
    ],
)
def test_planted_evidence_is_caught(
    name: str, value: object, pair: list[tuple[RunConfig, RunFolder]], tmp_path: Path
) -> None:
    (left, left_folder), (right, right_folder) = pair
    forged = RunFolder(tmp_path / "forged")
    write_json(forged.path / "COMPLETE", right_folder.summary() | {name: value})
    forged.metrics_file.write_bytes(right_folder.metrics_file.read_bytes())
    certificate = certify(CONTRACT, left, right, left_folder, forged)
    assert certificate.verdict == NOT_MATCHED
    assert any(violation.startswith(f"{name}:") for violation in certificate.violations)


def test_another_order_in_the_middle_is_caught(pair: list[tuple[RunConfig, RunFolder]], tmp_path: Path) -> None:
    (left, left_folder), (right, right_folder) = pair
    forged = RunFolder(tmp_path / "forged")
    write_json(forged.path / "COMPLETE", read_json(right_folder.path / "COMPLETE"))
    lines = right_folder.metrics_file.read_text().splitlines()
    row = json.loads(lines[2]) | {"data_hash": "f" * 32}
    forged.metrics_file.write_text("\n".join([*lines[:2], json.dumps(row), *lines[3:]]) + "\n")
    certificate = certify(CONTRACT, left, right, left_folder, forged)
    assert certificate.verdict == NOT_MATCHED
    assert f"differ from step {row['step']}" in certificate.sentence()


def without_end_tokens(batch: Callable[..., Batch]) -> Callable[..., Batch]:
    """The loader's rows with another token where a document ends."""

    def changed(loader: Loader, *place: int, **part: int) -> Batch:
        rows = batch(loader, *place, **part)
        rows.tokens[rows.tokens == loader.special.eos] = loader.special.unknown
        return rows

    return changed


@pytest.mark.parametrize("what", ["end token", "one step fewer", "order"])
def test_planted_in_the_training_itself_is_caught(
    what: str,
    pair: list[tuple[RunConfig, RunFolder]],
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The configuration says nothing of it; the evidence does."""
    (left, left_folder), (right, _) = pair
    run = right
    if what == "end token":
        monkeypatch.setattr(Loader, "batch", without_end_tokens(Loader.batch))
    elif what == "order":
        run = replace(right, seeds=replace(right.seeds, order=22))
    else:
        run = replace(right, recipe=replace(right.recipe, tokens=right.recipe.tokens - 8 * 48))
    folder = train_tiny(run, tmp_path, corpus)
    certificate = certify(CONTRACT, left, right, left_folder, folder)  # right: as if configured like its pair
    expected = {"end token": "data_hash", "order": "data_order", "one step fewer": "tokens"}[what]
    assert certificate.verdict == NOT_MATCHED
    assert any(violation.startswith(f"{expected}:") for violation in certificate.violations)


def forged(folder: RunFolder, root: Path, **changes: object) -> RunFolder:
    """A run's evidence with another summary."""
    copy = RunFolder(root / "forged")
    write_json(copy.path / "COMPLETE", folder.summary() | changes)
    copy.metrics_file.write_bytes(folder.metrics_file.read_bytes())
    return copy


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("numerics", "capability", "DEFAULT"),
        ("numerics", "MKL_CBWR", "COMPATIBLE"),
        ("numerics", "cpu", "another"),
        ("libraries", "torch", "1.0"),
        ("device", "name", "another"),
        ("code", "optim.schedules", "another"),
    ],
)
def test_another_environment_is_named_by_field(
    group: str, field: str, value: str, pair: list[tuple[RunConfig, RunFolder]], tmp_path: Path
) -> None:
    (left, left_folder), (right, right_folder) = pair
    session = json.loads(right_folder.summary()["sessions"][0])
    longest = 120 + len(str(session[group].get(field)))  # the name of a processor may be half a line
    session[group][field] = value
    for sessions in ([json.dumps(session)], [json.dumps(session), *right_folder.summary()["sessions"]]):
        changed = forged(right_folder, tmp_path, sessions=sessions)
        certificate = certify(CONTRACT, left, right, left_folder, changed)
        named = group if field == "name" else f"{group}.{field}"
        assert certificate.verdict == NOT_MATCHED
        assert len(certificate.violations) == 1 and len(certificate.violations[0]) < longest
        assert certificate.violations[0].startswith(f"{named}:") and value in certificate.violations[0]
        assert (", then " in certificate.violations[0]) == (len(sessions) == 2)


def test_much_other_code_is_one_line(pair: list[tuple[RunConfig, RunFolder]], tmp_path: Path) -> None:
    (left, left_folder), (right, right_folder) = pair
    session = json.loads(right_folder.summary()["sessions"][0])
    session["code"] = dict.fromkeys(session["code"], "another")
    changed = forged(right_folder, tmp_path, sessions=[json.dumps(session)])
    violations = certify(CONTRACT, left, right, left_folder, changed).violations
    assert len(violations) == 1 and violations[0].startswith("code:") and "modules more" in violations[0]


def test_another_placement_is_matched_to_rounding_as_far_as_measured(
    pair: list[tuple[RunConfig, RunFolder]], corpus: Corpus, tmp_path: Path
) -> None:
    """Of one configuration the deviation is measured; recomputed activations have none; between members it is not."""
    (left, left_folder), (right, right_folder) = pair
    placed = {
        name: replace(PLACEMENT, **{name: value})
        for name, value in {"attention": "reference", "recompute": True}.items()
    }
    reference = train_tiny(right, tmp_path / "attention", corpus, placement=placed["attention"])
    certificate = certify(CONTRACT, right, right, right_folder, reference)
    assert certificate.verdict == TO_ROUNDING
    assert (
        "(placement.attention auto against reference; deviation: over 6 steps losses differ by up to"
        in certificate.sentence()
    )
    measured = measure(right_folder, reference)
    assert measured is not None and 0 < measured.loss < 1e-5 and 0 < (measured.weights or 0) < 2e-4
    same = train_tiny(right, tmp_path / "recompute", corpus, placement=placed["recompute"])
    certificate = certify(CONTRACT, right, right, right_folder, same)
    assert certificate.verdict == MATCHED
    assert certificate.evidence["deviation"]["left"].startswith("none: the same losses at 6 steps")
    certificate = certify(CONTRACT, left, right, left_folder, reference)
    assert certificate.verdict == TO_ROUNDING
    assert "matched to rounding except member, direction, objective.name (placement" in certificate.sentence()
    assert "deviation: not measured" in certificate.sentence()


def test_a_placement_that_does_more_than_round_is_not_matched(
    pair: list[tuple[RunConfig, RunFolder]], tmp_path: Path
) -> None:
    run, folder = pair[1]
    session = json.loads(folder.summary()["sessions"][0])
    session["placement"]["processes"] = 2
    changed = forged(folder, tmp_path, sessions=[json.dumps(session)], final_weights="another")
    rows = [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]
    rows[3]["loss"] *= 1.02
    changed.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    certificate = certify(CONTRACT, run, run, folder, changed)
    assert certificate.verdict == NOT_MATCHED
    assert [violation.partition(":")[0] for violation in certificate.violations] == ["deviation"]


def test_what_was_built_is_what_is_counted(
    pair: list[tuple[RunConfig, RunFolder]], corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is wider than its configuration says: parameters and FLOPs show it."""
    (left, left_folder), (right, _) = pair
    original = transformer.GatedMLP.__init__
    monkeypatch.setattr(
        transformer.GatedMLP,
        "__init__",
        lambda self, config: original(self, replace(config, intermediate_size=config.intermediate_size + 16)),
    )
    folder = train_tiny(right, tmp_path, corpus)
    contract = replace(CONTRACT, reported=("loss_tokens",), within={"flops": 0.1})
    certificate = certify(contract, left, right, left_folder, folder)
    wider = 4 * 3 * 32 * 16
    assert certificate.evidence["parameters"]["right"] - certificate.evidence["parameters"]["left"] == wider
    assert any(violation.startswith("parameters:") for violation in certificate.violations)
    summary = folder.summary()
    assert summary["flops"] - pair[1][1].summary()["flops"] == 6 * wider * summary["tokens"]


def test_a_corpus_counts_by_its_fingerprint_and_a_mixture_by_its_shares(
    pair: list[tuple[RunConfig, RunFolder]],
) -> None:
    (encoder, _), (decoder, _) = pair
    assert audit(CONTRACT, encoder, replace(decoder, corpus="called-otherwise")).verdict == MATCHED_EXCEPT

    def mixed(run: RunConfig, **weights: float) -> RunConfig:
        phases = {name: replace(phase, mixture=weights) for name, phase in run.recipe.phases.items()}
        return replace(run, recipe=replace(run.recipe, phases=phases))

    left, right = mixed(encoder, a=1.0, b=1.0), mixed(decoder, a=50.0, b=50.0)
    assert audit(CONTRACT, left, right).verdict == MATCHED_EXCEPT
    assert audit(CONTRACT, mixed(encoder, a=0.1, b=0.2), mixed(decoder, a=10.0, b=20.0)).verdict == MATCHED_EXCEPT
    assert audit(CONTRACT, left, mixed(decoder, a=50.0, b=49.0)).verdict == NOT_MATCHED


def test_evidence_within_a_tolerance(pair: list[tuple[RunConfig, RunFolder]]) -> None:
    """The members' FLOPs differ by what attention and the head cost."""
    (left, left_folder), (right, right_folder) = pair
    flops = [folder.summary()["flops"] for folder in (left_folder, right_folder)]
    off = 1 - min(flops) / max(flops)
    for tolerance, verdict in ((off * 1.01, MATCHED_EXCEPT), (off * 0.99, NOT_MATCHED)):
        contract = replace(CONTRACT, reported=("loss_tokens", "seconds"), within={"flops": tolerance})
        assert certify(contract, left, right, left_folder, right_folder).verdict == verdict


def test_an_unfinished_run_has_no_certificate(
    pair: list[tuple[RunConfig, RunFolder]], corpus: Corpus, tmp_path: Path
) -> None:
    (left, left_folder), _ = pair
    right = tiny_run(corpus, "decoder")
    unfinished = train_tiny(right, tmp_path, corpus, stop_after=3)
    with pytest.raises(ValueError, match="is not complete"):
        certify(CONTRACT, left, right, left_folder, unfinished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"may_differ": {"learning": "x"}}, "is not a field of a run"),
        ({"may_differ": {"optimizer.rate": "x"}}, "is not a field of a run; use .*learning_rate"),
        ({"may_differ": {"recipe.phases.decay.mask": "x"}}, "is not a field of a run; use .*mask_rate"),
        (
            {"may_differ": {"seeds.order.x": "x", "parent.weight": "x"}},
            "is not a field of a run; did you mean 'weights'",
        ),
        ({"may_differ": {"direction": ""}}, "gives no reason"),
        ({"within": {"flops": 0.0}}, "is not a tolerance of a number"),
        ({"within": {"tokenizer": 0.1}}, "is not a tolerance of a number"),
        ({"equal": ("mood",)}, "is not evidence of a run"),
        ({"initial_weights": "similar"}, "use one of equal, from_parent"),
    ],
)
def test_bad_contracts_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONTRACT, **changes)
