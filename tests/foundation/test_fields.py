"""What no field may hold: reported at the command line, by field, with the bound and a remedy, before anything is done."""

import os
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from ettin_core.data.corpus import Corpus
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.fields import NAME_BYTES, check_name, check_threads
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.model.config import AdapterConfig
from ettin_core.requests.compose import composed
from ettin_core.requests.evaluate import EvaluateRequest
from ettin_core.requests.train import TrainRequest
from ettin_core.studies.grid import StudyRequest
from ettin_core.training.phases import RecipeConfig
from tests.runs import tiny_run

REQUESTS: dict[str, type] = {"train": TrainRequest, "study": StudyRequest, "evaluate": EvaluateRequest}
REFUSED = {
    "train placement.stall_seconds=nan": "placement.stall_seconds=nan is not a finite number",
    "train placement.stall_seconds=inf": "placement.stall_seconds=inf is not a finite number",
    "train data.tokenizer_sample_mb=nan": "data.tokenizer_sample_mb=nan is not a finite number",
    "train recipe.max_epochs=inf": "recipe.max_epochs=inf is not a finite number",
    "train recipe.phases.decay.rope_base_global=nan": "recipe.phases.decay.rope_base_global=nan is not a finite number",
    "train recipe.phases.decay.rope_base_local=-1": "recipe.phases.decay.rope_base_local=-1.0 is not positive",
    "train data.tokenizer_sample_mb=-1": "data.tokenizer_sample_mb=-1.0 leaves no text",
    "train seed=-1": "seeds.initialisation=-1 is not between 0 and",
    "train placement.workers=1e30": "is not between 0 and 1,024",
    "train machine.tokens_per_second=-1": "machine.tokens_per_second=-1.0 is not positive",
    "train data.world_seed=-1": "data.world_seed=-1 is not between 0 and",
    "train data.documents=1e30": "data.documents=1000000000000000019884624838656 is not between 1 and 10,000,000,000",
    "train size.local_window=1e30": "model.local_window=1000000000000000019884624838656 is not between 1",
    "train member.objective.random_share=-1": "objective.random_share=-1.0 is not between 0 and 1",
    "train +data.sources.a.at_least.q=nan": "data.sources.a.at_least.q=nan is not a finite number",
    "train size.num_layers=10000000": "model.num_layers=10000000 is not between 1 and 10,000",
    "train size.vocab_size=1000000000": "model.vocab_size=1000000000 is not between 1 and 10,000,000",
    "train data.vocab_size=1000000000": "data.vocab_size=1000000000 is not between 300 and 10,000,000",
    "train size.name=../../evil": "size.name='../../evil' is not a valid name",
    "train member.name=a/b": "member.name='a/b' becomes the name of a folder",
    "train data.name=.hidden": "data.name='.hidden' is not a valid name",
    "train data.name=/absolute": "data.name='/absolute' becomes the name of a folder",
    f"train data.name={'x' * 65}": "is longer than 64 bytes",
    "train data.sources={../a:{path:x}}": "data.sources='../a' is not a valid name",
    "study name=../evil": "name='../evil' is not a valid name",
    "study analysis.kind=magic": "analysis.kind='magic' is not a kind of analysis; use one of pair, effects",
    "study match_on=luck": "match_on='luck' is not a ruler",
    "study +rates.encoder=nan": "rates.encoder=nan is not a finite number",
    "evaluate run=x threads=100000": "threads=100000 is not between 1 and",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_is_refused_by_the_command(command: str) -> None:
    name, *overrides = command.split()
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"), pytest.raises(UserError) as caught:
        composed(name, REQUESTS[name], overrides)
    assert REFUSED[command] in str(caught.value)


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\0b", " a", "x" * (NAME_BYTES + 1), "é" * 33]
)
def test_names_that_would_leave_their_folder(value: str) -> None:
    with pytest.raises(UserError, match="use "):
        check_name("name", value)


@pytest.mark.parametrize("value", ["nano", "dec-from-enc", "open_english", "wiki q85", "v1.2", "世界"])
def test_names_that_are_folders(value: str, tmp_path: Path) -> None:
    check_name("name", value)
    (tmp_path / value).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [value]


def test_phases_are_named_like_folders() -> None:
    phase: dict[str, Any] = {"share": 1.0, "context": 64, "batch_rows": 8, "prefix": "step"}
    for name, changes in (("../x", {}), ("x", {"prefix": "s" * 65})):
        with pytest.raises(UserError, match=r"recipe\.phases"):
            build(RecipeConfig, {"tokens": 1000, "phases": {name: phase | changes}}, "recipe")


def test_an_adapter_is_narrower_than_its_model(corpus: Corpus) -> None:
    with pytest.raises(UserError, match="adapter.rank=33 is above the model's width of 32"):
        tiny_run(corpus, adapter=AdapterConfig(33, 32))


def test_threads_have_a_bound_that_the_machine_sets() -> None:
    check_threads("threads", os.cpu_count() or 1)
    with pytest.raises(UserError, match="for each core of this machine"):
        check_threads("threads", 10_000)
