"""The environment of a run: what is recorded of code, libraries and numerics, what a resumed run is held to, and what not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import read_json
from ettin_core.model.config import AdapterConfig
from ettin_core.records.folders import RunFolder
from ettin_core.training import environment
from ettin_core.training.config import PlacementConfig
from ettin_core.training.environment import changed_since, describe, differences, training_code
from ettin_core.training.numerics import numerics, processor
from tests.runs import PLACEMENT, edit, tiny_run, train_tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def at_four(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after four steps."""
    return train_tiny(tiny_run(corpus), tmp_path_factory.mktemp("stopped"), corpus, stop_after=4).path


@pytest.fixture
def continued(at_four: Path, corpus: Corpus, tmp_path: Path) -> Callable[..., RunFolder]:
    """`continued(**options)` trains a copy of that run further."""
    shutil.copytree(at_four, tmp_path / at_four.name)
    return partial(train_tiny, tiny_run(corpus), tmp_path, corpus)


def test_what_a_session_records(corpus: Corpus, tmp_path: Path) -> None:
    folder = train_tiny(tiny_run(corpus), tmp_path, corpus, stop_after=1)
    recorded = read_json(folder.path / "provenance.json")["environment"]
    assert recorded["numerics"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert {"cpu", "blas", "onednn", "onednn_matmul", "matmul_precision", "deterministic"} <= recorded[
        "numerics"
    ].keys()
    assert recorded["libraries"].keys() == {"torch", "numpy", "tokenizers"}
    assert recorded["device"] == {"name": "cpu"}
    assert recorded["placement"] | {"processes": 1, "parallel": "alone", "threads": 1} == recorded["placement"]
    packages = {name.partition(".")[0] for name in recorded["code"]}
    assert packages == {"checkpoints", "data", "foundation", "model", "objectives", "optim", "training"}
    assert "objectives.kinds.mlm" in recorded["code"] and "objectives.kinds.clm" not in recorded["code"]
    assert not any(
        name.startswith(("data.importers", "data.curation.rules", "data.preparation.prepare"))
        for name in recorded["code"]
    )


def test_an_adapter_is_trained_by_peft_too(corpus: Corpus) -> None:
    run = replace(tiny_run(corpus), adapter=AdapterConfig(2, 4))
    session = describe(run, PLACEMENT, ProcessGroup(), CPU)
    assert "peft" in json.loads(session)["libraries"]
    assert differences([describe(tiny_run(corpus), PLACEMENT, ProcessGroup(), CPU)], [session]) == {}


@pytest.mark.parametrize(
    ("planted", "named", "group"),
    [
        (
            lambda patch, code: patch.setenv("MKL_CBWR", "COMPATIBLE"),
            "numerics.MKL_CBWR was not set, is COMPATIBLE",
            "numerics",
        ),
        (lambda patch, code: patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2"), "numerics.ONEDNN_MAX_CPU_ISA was", "numerics"),
        (
            lambda patch, code: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "VSX"),
            "numerics.capability was [A-Z0-9]+, is VSX",
            "numerics",
        ),
        (
            lambda patch, code: edit(code, "objectives.kinds.mlm", "LATER = 1"),
            r"code.objectives.kinds.mlm was \w{12}, is",
            "code",
        ),
        (lambda patch, code: edit(code, "optim.schedules", "def more(): pass"), "code.optim.schedules was", "code"),
        (
            lambda patch, code: patch.setattr(environment, "library_versions", lambda *more: {"torch": "1.0"}),
            "libraries.torch was .*, is 1.0",
            "libraries",
        ),
    ],
)
def test_another_environment_is_refused_by_name_unless_allowed(
    planted: Callable[[pytest.MonkeyPatch, Path], None],
    named: str,
    group: str,
    continued: Callable[..., RunFolder],
    code: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted(monkeypatch, code)
    with pytest.raises(UserError, match=rf"{named}.*allow_mismatch=\[{group}\]"):
        continued(stop_after=5)
    continued(placement=replace(PLACEMENT, allow_mismatch=(group,)), stop_after=5)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="allow_mismatch='colour'"):
        PlacementConfig(allow_mismatch=("colour",))


def test_what_does_not_train_a_run_may_change(
    corpus: Corpus, continued: Callable[..., RunFolder], code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(corpus)
    edit(code, "objectives.kinds.skip", "OBJECTIVE = None")
    edit(code, "objectives.kinds.clm", "LATER = 1")  # an encoder does not use it
    edit(code, "evaluation.multiple_choice", "LATER = 1")
    edit(code, "training.trackers", "LATER = 1")
    edit(code, "optim.stable_adamw", "# a comment")
    versions = environment.library_versions("peft")
    others = {"lm-eval": "9.9", "mteb": "9.9", "transformers": "9.9", "peft": "9.9"}
    monkeypatch.setattr(environment, "library_versions", lambda *more: versions | others)
    folder = continued()
    assert len(folder.summary()["sessions"]) == 1
    assert changed_since(run, folder.summary()) == []
    edit(code, "optim.stable_adamw", "LATER = 1")
    assert changed_since(run, folder.summary()) == ["optim.stable_adamw"]


def earlier(**changes: object) -> str:
    """A session as it was recorded before code was recorded by module."""
    libraries = {"torch": "2.13.0", "numpy": "2.4.0", "tokenizers": "0.22.0", "lm-eval": "0.4.9", "python": "3.11.2"}
    session = {
        **{
            "code": "a" * 64,
            "libraries": libraries,
            "device": "cpu",
            "attention": "auto",
            "compile": False,
            "threads": 1,
        },
        **{"micro_rows": None, "parallel": "ddp", "recompute": False, "processes": 1},
    }
    return json.dumps(session | changes, sort_keys=True)


def test_sessions_of_earlier_versions_are_read(corpus: Corpus) -> None:
    libraries = {"torch": "2.13.0", "numpy": "2.4.0", "tokenizers": "0.22.0", "lm-eval": "0.5"}
    assert differences([earlier()], [earlier(libraries=libraries)]) == {}, "lm-eval trains nothing"
    assert differences([earlier()], [earlier(parallel="fsdp")]) == {}, "one process divides nothing"
    assert differences([earlier()], [earlier(code="b" * 64)]) == {"code": {"all": ("a" * 12, "b" * 12)}}
    assert differences([earlier()], [earlier(processes=2)]) == {
        "placement": {"parallel": ("alone", "ddp"), "processes": ("1", "2")}
    }
    run = tiny_run(corpus)
    changes = differences([earlier()], [describe(run, PLACEMENT, ProcessGroup(), CPU)])
    assert changes["code"] == {"all": ("a" * 12, "recorded field by field")}
    assert changes["numerics"] == {"all": ("not recorded", "recorded field by field")}
    assert changed_since(run, {"sessions": [earlier()]}) is None


def test_values_of_several_sessions_are_listed_in_order(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    texts = [
        describe(run, replace(PLACEMENT, attention=name), ProcessGroup(), CPU) for name in ("sdpa", "flex", "flex")
    ]
    assert differences(texts, texts[:1]) == {"placement": {"attention": ("sdpa, then flex", "sdpa")}}


def test_processes_on_unlike_machines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment._of_all(ProcessGroup(), "AVX2") == "AVX2"
    monkeypatch.setattr(ProcessGroup, "gather", lambda self, value: ["AVX512", "AVX2", "AVX512"])
    assert environment._of_all(ProcessGroup(), "AVX2") == "AVX2 + AVX512"


def test_oneDNN_switched_off_is_seen() -> None:
    assert numerics(CPU)["onednn"] not in ("off", "")
    with torch.backends.mkldnn.flags(enabled=False):
        assert numerics(CPU)["onednn"] == "off"


def test_a_processor_has_a_name(tmp_path: Path) -> None:
    table = tmp_path / "cpuinfo"
    table.write_text("processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\n")
    assert processor(table) == "AMD EPYC (cpu family 25, model 17)"
    assert processor(tmp_path / "absent") and processor()


def test_the_code_of_a_schedule_is_that_of_its_parts(corpus: Corpus) -> None:
    encoder, decoder = (training_code(tiny_run(corpus, name)) for name in ("encoder", "decoder"))
    assert encoder.keys() ^ decoder.keys() == {"objectives.kinds.mlm", "objectives.kinds.clm"}
