"""Stages of studies: which jobs there are and what each waits for, and the errors before anything is trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import kinds
from analysis.load import load
from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.override_text import spell
from ettin_core.foundation.storage import write_json
from ettin_core.requests.compose import composed, composer, configurations
from ettin_core.requests.finetune import FinetuneRequest, finetune
from ettin_core.requests.stages import Commands
from ettin_core.studies.grid import StudyRequest, cells_of
from ettin_core.studies.run_cells import StudyProgress
from ettin_core.studies.stages import Stage, stages_of
from ettin_core.studies.study import Study
from ettin_core.studies.worker_pool import Job, Outcome
from experiments.status import table
from tests.evaluation.finetuning import plant


def planned(*overrides: str) -> tuple[StudyRequest, dict[str, Stage]]:
    """A study's request and the jobs of its stages."""
    options = [*overrides, "axes.seed=[21,22]"]
    with configurations():
        request = composed("study", StudyRequest, options)
        cells = cells_of(request, options, composer("study", StudyRequest))
        return request, stages_of(request, cells)


def test_a_stage_follows_the_cells_that_an_earlier_one_makes() -> None:
    request, stages = planned("study=tuning")
    assert len(stages) == 2 * (2 * 2 + 2) and request.unanswerable() == []
    dpo = stages["decoder+sft+dpo s22 full"]
    assert dpo.sources == ("decoder+sft s22 full",) and stages[dpo.sources[0]].sources == ("decoder s22",)
    assert stages["decoder+sft s21 lora"].member == "decoder+sft-lora"


def test_parents_and_base_of_a_merge_are_of_its_seed() -> None:
    request, stages = planned("study=merging")
    assert stages["enc-from-dec+both s22 ties"].waits_for == (
        "enc-from-dec s22",
        "enc-from-dec-mntp s22",
        "decoder s22",
    )
    assert stages["decoder+conversion s21 [0.5,0.5]"].axes["weights"] == "[0.5,0.5]"
    assert request.unanswerable() == []


def test_all_rerankers_wait_for_one_retriever() -> None:
    _, stages = planned("study=retrieval_kinds")
    assert len(stages) == 2 * 2 * 5
    assert stages["decoder+reranker s22"].waits_for == ("decoder s22", "encoder+dense s21")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.quantised.command=shrink", "is not a command of a stage"),
        ("stages.quantised.of={member:sparse}", "selects no cell; the members are encoder, decoder"),
        ("stages.quantised.axes={method:[nf4,nf4]}", "name each level once"),
        ("+stages.quantised.others=[{member:decoder}]", "has no meaning for quantise"),
        ("+stages.quantised.retriever={stage:dense}", "has no meaning for quantise"),
    ],
)
def test_what_cannot_be_planned(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned("study=quantisation", override)


def test_the_command_checks_a_stage_before_anything_is_trained(tmp_path: Path) -> None:
    def check(study: str, *overrides: str) -> Any:
        _, stages = planned(f"study={study}", f"studies_dir={tmp_path}", *overrides)
        for stage in {item.label: item for item in stages.values()}.values():
            Commands.check(stage)

    check("merging")
    sets = f"stages.understanding.settings.eval_data={plant(tmp_path / 'sets')}"
    check("evidence", "data=world", sets, "stages.understanding.settings.task=[sst2,rte]", "~stages.retrieval")
    with pytest.raises(UserError, match="lacks cls/trec"):
        check("evidence", "data=world", sets)
    with pytest.raises(UserError, match="grup"):
        check("quantisation", "+stages.quantised.settings={grup:32}")
    with pytest.raises(UserError, match="int9"):
        check("quantisation", "stages.quantised.axes={method:[int9]}")
    pytest.importorskip("trl", reason="the extra `chat` is not installed")
    check("tuning")
    assert (tmp_path / "world_sets_0/chat/world_preferences.jsonl").is_file()
    with pytest.raises(UserError, match="encoder' is an encoder, whose packed rows"):
        check("tuning", "stages.sft.of={member:encoder}", "~stages.dpo")
    with pytest.raises(UserError, match="encoder' is not a decoder"):
        check("tuning", "stages.dpo.of={member:encoder}")
    with pytest.raises(UserError, match="is not a file"):
        check("tuning", f"stages.sft.settings.conversations={tmp_path}/none.jsonl")


def test_a_stage_that_cannot_run_is_reported_before_a_corpus_is_prepared(tmp_path: Path) -> None:
    corpora = tmp_path / "corpora"
    options = ["study=evidence", "data=world", "axes.seed=[21]", f"corpora_dir={corpora}", f"studies_dir={tmp_path}"]
    with configurations(), pytest.raises(UserError, match="task='trec' is not in GLUE, and eval_data is null"):
        compose = composer("study", StudyRequest)
        Study(compose(options), options, compose, commands=Commands())
    assert not corpora.exists()


class InThisProcess:
    """Runs jobs one after the other where they are queued, and keeps their names."""

    def __init__(self) -> None:
        self.waiting: list[Job] = []
        self.names: list[str] = []

    def add(self, job: Job) -> None:
        self.waiting.append(job)

    def outcomes(self) -> Iterator[Outcome]:
        while self.waiting:
            job = self.waiting.pop(0)
            self.names.append(job.name)
            yield Outcome(job, job.function(*job.arguments), None)


def run(overrides: list[str]) -> tuple[Study, list[str]]:
    """Run what is missing of a study; returns it and the names of the jobs."""
    with configurations():
        compose = composer("study", StudyRequest)
        study = Study(compose(overrides), overrides, compose, commands=Commands())
        study.check()
        pool = InThisProcess()
        work = StudyProgress(study, pool)
        work.begin()
        for outcome in pool.outcomes():
            work.settle(outcome)
        assert work.failures() == {}
        return study, pool.names


def test_a_study_with_stages_runs_once_and_is_reported(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="the extra `quantisation` is not installed")
    merge = "half:{command:merge,of:{member:encoder},others:[{member:decoder}],settings:{method:average}}"
    copy = "small:{command:quantise,of:{member:[encoder,encoder+half]},settings:{method:int8_weight_only,rounds:1}}"
    grid = {"task": "sst2", "way": "bidirectional", "eval_data": str(plant(tmp_path / "sets")), "finetuning.seeds": [0]}
    tuned = f"tuned:{{command:finetune,of:{{member:encoder}},settings:{spell(grid)}}}"
    overrides = [
        "study=grid", "+axes={member:[encoder,decoder],seed:[21]}", f"stages={{{merge},{copy},{tuned}}}", "size=pico",
        "recipe=smoke", "recipe.tokens=6000", "suite=smoke", "export=false", "data.documents=1500", "data.tokenizer_sample_mb=32",
        f"corpora_dir={corpus.folder.parent}", f"runs_dir={tmp_path / 'runs'}", f"studies_dir={tmp_path / 'studies'}",
    ]  # fmt: skip
    study, names = run(overrides)
    assert names.index("evaluate encoder s21") < names.index("merge encoder+half s21")
    assert names.index("evaluate encoder s21") < names.index("finetune encoder+tuned s21")
    assert names.index("evaluate encoder+half s21") < names.index("quantise encoder+half+small s21")
    again, repeated = run(overrides)
    assert repeated == [], "a finished study needs no worker"
    assert again.path == study.path
    assert "encoder+half+small s21  complete" in "\n".join(table(again))

    more = [f"{key}={spell(value)}" for key, value in (grid | {"finetuning.seeds": [0, 1]}).items()]
    places = [f"run={study.folder('encoder s21').path}", f"corpora_dir={corpus.folder.parent}"]
    with configurations():
        other = composed("finetune", FinetuneRequest, [*more, *places])
    finetune(other)  # the same by more trials, which a report would take if the study did not say what it measured
    record = study.path / "study.json"
    write_json(record, study.record(study.certificates()))
    recorded = load(tmp_path / "runs", record)
    assert set(recorded.runs["member"]) == {"encoder", "decoder", "encoder+half"}
    changes = recorded.measurements[recorded.measurements["protocol"] == "quantised.int8_weight_only"]
    assert set(changes["member"]) == {"encoder", "encoder+half"}
    moved = changes[changes["metric"].str.endswith("_change")].set_index(["member", "task"])["value"]
    assert 0 < moved.loc["encoder"].abs().max() < 0.2
    sentiment = recorded.measurements[recorded.measurements["protocol"] == "finetune.sst2.bidirectional"]
    assert set(sentiment["member"]) == {"encoder"} and "accuracy" in set(sentiment["metric"])
    assert {origin["trials"] for origin in sentiment["provenance"]} == {2}
    assert kinds.analyse(recorded).tables
