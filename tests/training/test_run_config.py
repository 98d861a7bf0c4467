"""Content names: the same configuration is the same run, and every field that can move a number is in the name."""

import json
from dataclasses import replace

import pytest

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.structures import build, plain
from ettin_core.model.adapter import AdapterConfig
from ettin_core.training.run import Parent, PlacementConfig, RunConfig, Seeds
from tests.runs import tiny_run


def test_the_same_configuration_has_the_same_name(corpus: Corpus) -> None:
    assert tiny_run(corpus).name == tiny_run(corpus).name


def test_the_name_survives_the_file(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    again = build(RunConfig, json.loads(json.dumps(plain(run))))
    assert again == run
    assert again.name == run.name


def test_the_checkpoint_rule_is_not_in_the_name(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    assert replace(run, checkpoint=CheckpointConfig(every_steps=1)).name == run.name


CHANGES = {
    "size": "other",
    "precision": "bf16",
    "corpus": "other",
    "fingerprint": "1" * 64,
    "seeds": Seeds(order=3),
    "parent": Parent("a", "step1", "0"),
    "adapter": AdapterConfig(rank=4, alpha=8),
}


@pytest.mark.parametrize("field", [*CHANGES, "model", "recipe", "optimizer", "objective"])
def test_every_other_field_is_in_the_name(field: str, corpus: Corpus) -> None:
    run = tiny_run(corpus)
    nested = {
        "model": replace(run.model, attention_output_dropout=0.1),
        "recipe": replace(run.recipe, tokens=run.recipe.tokens + 640),
        "optimizer": replace(run.optimizer, weight_decay=1e-4),
        "objective": replace(run.objective, mask_share=0.7),
    }
    assert replace(run, **{field: {**CHANGES, **nested}[field]}).name != run.name
    assert set(CHANGES) | set(nested) | {"member", "direction", "checkpoint"} == set(plain(run))


@pytest.mark.parametrize("change", [{"packing": "off"}, {"mixture": {"world": 1.0}}])
def test_what_a_phase_reads_is_in_the_name(change: dict, corpus: Corpus) -> None:
    run = tiny_run(corpus)
    phases = run.recipe.phases | {"decay": replace(run.recipe.phases["decay"], **change)}
    assert replace(run, recipe=replace(run.recipe, phases=phases)).name != run.name


def test_workers_cannot_be_fewer_than_none() -> None:
    with pytest.raises(ValueError, match=r"placement\.workers=-1 is negative; use 0 \(none\) or more"):
        PlacementConfig(workers=-1)


@pytest.mark.parametrize(
    ("rows", "processes", "micro", "parts"), [(16, 8, 4, 1), (16, 2, 4, 2), (16, 1, None, 1), (24, 2, 5, 3)]
)
def test_micro_batches(rows: int, processes: int, micro: int | None, parts: int) -> None:
    assert PlacementConfig(micro_rows=micro).micro_batches(rows, processes) == parts


@pytest.mark.parametrize(("rows", "processes", "micro"), [(20, 2, 4), (7, 2, None), (8, 3, 2)])
def test_rows_that_would_be_left_out_are_refused(rows: int, processes: int, micro: int | None) -> None:
    with pytest.raises(ValueError, match=f"batch_rows={rows} does not divide into {processes} processes"):
        PlacementConfig(micro_rows=micro).micro_batches(rows, processes)
