"""The committed names of runs and corpora: what renames a preset must be said, by `python -m tests.golden.test_names`.

docs/identity.md has the rule by which fields enter names and leave them.
"""

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ettin_core.data.config import DataConfig
from ettin_core.data.documents import Source
from ettin_core.data.preparation.plan import Plan
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build, plain
from ettin_core.planning.run_plan import MemberConfig
from ettin_core.requests.compose import composer, to_plain
from ettin_core.requests.train import TrainRequest
from ettin_core.studies.grid import StudyRequest, cells_of, plan_runs
from ettin_core.training.config import RunConfig

FILE = Path(__file__).with_name("names.json")
VOCABULARY, FINGERPRINT = 2048, "0" * 64  # of a corpus that is not there
ONE_SEED = {"factorial", "biphasic", "conversion_frontier", "density", "masking_ratio", "rulers"}
ONE_SEED |= {"merging", "quantisation", "retrieval_kinds", "tuning"}
CORPORA = ("world", "text", "huggingface", "mds", "open_english", "ettin")  # quality's names hold library versions


def presets(group: str) -> list[str]:
    """The names of a group's files."""
    return sorted(path.stem for path in (CONFIGURATIONS / group).glob("*.yaml"))


def files(group: str) -> dict[str, Any]:
    """A group's files, which have no defaults of their own."""
    return {name: yaml.safe_load((CONFIGURATIONS / group / f"{name}.yaml").read_text()) for name in presets(group)}


def requests() -> Iterator[tuple[str, TrainRequest]]:
    """Every recipe that trains from scratch at every size; what a recipe changes of its size (published) stays changed."""
    sizes = files("size")
    for recipe in [name for name in presets("recipe") if "conversion" not in name]:
        values = compose("train", [f"recipe={recipe}", "size=nano"])
        changed = {key: value for key, value in values.size.items() if sizes["nano"].get(key) != value}
        for name, size in sizes.items():
            values.size = size | changed
            yield f"{name} {recipe}", build(TrainRequest, to_plain(values))


def run_names() -> dict[str, dict[str, str]]:
    """The hash of every size, recipe and member."""
    members = {name: member(values) for name, values in files("member").items()}
    return {
        title: {name: short(planned(replace(request, member=one))) for name, one in members.items()}
        for title, request in requests()
    }


def member(values: dict[str, Any]) -> MemberConfig:
    """A member, whose name may refer to its own fields."""
    return build(MemberConfig, to_plain(OmegaConf.create({"member": values}))["member"])


def planned(request: TrainRequest) -> RunConfig:
    """The run of a request on the corpus that is not there."""
    return request.parts.planned(request.member, VOCABULARY, "none", FINGERPRINT)


def short(run: RunConfig) -> str:
    """The hash in a run's name."""
    return run.name.rsplit("-", 1)[1]


def changed_names() -> dict[str, dict[str, str]]:
    """The hash of the other groups' files, one at a time."""
    options = [f"optimizer={name}" for name in presets("optimizer")] + ["precision=bf16", "placement=gpu", "data=mds"]
    return {"nano laptop encoder": {option: short(planned(train(option))) for option in options}}


def train(*overrides: str) -> TrainRequest:
    """A training as composed."""
    path = [] if "data=world" in overrides else ["data.path=somewhere"]
    return build(TrainRequest, to_plain(compose("train", [*overrides, *path])))


def study_names() -> dict[str, dict[str, str]]:
    """The hash of every cell of every study (of one seed where seeds are an axis), on corpora that are not there."""
    names = {}
    for study in presets("study"):
        if study != "grid":
            overrides = [f"study={study}", *(["axes.seed=[21]"] if study in ONE_SEED else [])]
            if "open_english" in (CONFIGURATIONS / "study" / f"{study}.yaml").read_text():
                overrides.append("data.path=somewhere")
            request = build(StudyRequest, to_plain(compose("study", overrides)))
            runs = plan_runs(cells_of(request, overrides, composer("study", StudyRequest)), lambda data: None)
            names[f"study {study}"] = {cell: short(run) for cell, run in runs.items()}
    return names


def corpus_names() -> dict[str, str]:
    """The names of corpora whose sources hold what `0` stands for."""
    return {name: Plan(data, sources(data)).corpus_name for name in CORPORA for data in [train(f"data={name}").data]}


def sources(data: DataConfig) -> tuple[Source, ...]:
    """Its sources as if they had been found."""
    return tuple(Source(name, config, FINGERPRINT, ()) for name, config in data.source_configs().items())


def defaults(kind: Any) -> dict[str, Any]:
    """The default of every field of a structure and of the structures in it, by class and field."""
    found: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in fields(kind):
        made = field.default_factory() if field.default_factory is not MISSING else field.default
        if made is not MISSING:
            found[f"{kind.__name__}.{field.name}"] = plain(made)
        for inner in {hints[field.name], *get_args(hints[field.name])}:
            if is_dataclass(inner):
                found |= defaults(inner)
    return found


def table() -> dict[str, dict[str, Any]]:
    """What is pinned but for the studies, which test_cells.py composes."""
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        named = run_names() | changed_names() | {"corpora": corpus_names()}
    return {"defaults": dict(sorted((defaults(RunConfig) | defaults(DataConfig)).items()))} | named


def test_names_are_the_committed_ones() -> None:
    made = table()
    committed = {title: row for title, row in json.loads(FILE.read_text()).items() if not title.startswith("study ")}
    for title, row in committed.items():
        changed = {
            name: (value, made[title].get(name)) for name, value in row.items() if made[title].get(name) != value
        }
        assert not changed, f"{title}: this renames runs that exist (docs/identity.md)"
    assert made == committed, "what is new is pinned by python -m tests.golden.test_names"
    assert len(made) == 3 + len(presets("size")) * 5 and all(
        len(row) == 17 for title, row in made.items() if "smoke" in title
    )


if __name__ == "__main__":
    everything = table()
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        everything |= study_names()
    rows = ",\n".join(f"{json.dumps(title)}: {json.dumps(row)}" for title, row in everything.items())
    FILE.write_text(f"{{\n{rows}\n}}\n")
