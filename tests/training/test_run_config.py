"""Content names: the same configuration is the same run, and every field that can move a number is in the name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.strict_config import build, plain
from ettin_core.model.config import AdapterConfig
from ettin_core.pairs.audit import audit
from ettin_core.pairs.contract import Contract
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import PlacementConfig, RunConfig, Seeds
from ettin_core.training.parents import Merge, Parent
from ettin_core.training.setup import open_session
from tests.runs import PLACEMENT, tiny_run


def test_the_same_configuration_has_the_same_name(corpus: Corpus) -> None:
    assert tiny_run(corpus).name == tiny_run(corpus).name


def test_the_name_survives_the_file(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    again = build(RunConfig, json.loads(json.dumps(plain(run))))
    assert again == run
    assert again.name == run.name


def test_neither_the_checkpoint_rule_nor_where_the_corpus_lies_is_in_the_name(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    assert replace(run, checkpoint=CheckpointConfig(every_steps=1)).name == run.name
    assert replace(run, corpus="world-0123456789").name == run.name


def test_the_order_of_phases_is_in_the_name_and_in_the_file(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    turned = replace(run, recipe=replace(run.recipe, phases=dict(reversed(run.recipe.phases.items()))))
    assert turned.name != run.name
    assert [phase.name for phase in turned.phases] == ["decay", "pretrain"]
    folder = RunFolder(tmp_path / turned.name)
    open_session(turned, folder, corpus, PLACEMENT, ProcessGroup(), None)
    assert build(RunConfig, folder.config()).name == turned.name
    contract = Contract("all", {}, "equal", ("fingerprint",), ())
    assert audit(contract, run, turned).violations == [
        "recipe.phases: ['pretrain', 'decay'] against ['decay', 'pretrain']"
    ]


def test_the_order_of_a_mixture_is_not_in_the_name(corpus: Corpus) -> None:
    names = []
    for mixture in ({"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0}):
        run = tiny_run(corpus)
        phases = run.recipe.phases | {"decay": replace(run.recipe.phases["decay"], mixture=mixture)}
        names.append(replace(run, recipe=replace(run.recipe, phases=phases)).name)
    assert names[0] == names[1]


CHANGES = {
    "size": "other",
    "precision": "bf16",
    "fingerprint": "1" * 64,
    "seeds": Seeds(order=3),
    "parent": Parent("a", "step1", "0"),
    "adapter": AdapterConfig(rank=4, alpha=8),
    "merge": Merge("average", (Parent("a", "step1", "0"), Parent("b", "step1", "1")), (0.5, 0.5)),
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
    assert set(CHANGES) | set(nested) | {"member", "direction", "checkpoint", "corpus"} == set(plain(run))


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
