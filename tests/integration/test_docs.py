"""The documentation is true: links lead somewhere, every page is reachable, and what a page names is there."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.importers.files import FORMATS
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation.distributed import ProcessGroup
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.strict_config import build
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.optim import build as build_module
from ettin_core.optim import config as optimizer_config
from ettin_core.optim.config import OptimizerConfig
from ettin_core.optim.update import Update
from ettin_core.requests.compose import to_plain
from ettin_core.studies.grid import StudyRequest
from tests.runs import tiny_run, train_tiny

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def links(page: Path) -> list[Path]:
    """The files that a page links to."""
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    return [(page.parent / target).resolve() for target in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not target.exists()] == []


def test_every_page_is_reachable_from_the_index() -> None:
    seen, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            waiting += links(page)
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= seen


def test_what_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    places = re.findall(r"`([\w/]+\.py): (\w+)`", text)
    assert len(places) >= 10
    step = text[text.index("## One training step") : text.index("## Where a number comes from")]
    assert 4 <= len({file for file, _ in re.findall(r"`([\w/]+\.py): (\w+)`", step)}) <= 8
    for file, name in places:
        assert re.search(rf"^(def|class) {name}\b|^{name} ?[:=]", (ROOT / file).read_text(), re.M), (file, name)
    tree = text[text.index("ettin_core/\n") : text.index("tests/ ")]
    packages = {path.name for path in (ROOT / "ettin_core").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"^  (\w+)/", tree, re.M)) == packages


def section(title: str) -> str:
    """The text of a section of the architecture page."""
    return (ROOT / "docs" / "architecture.md").read_text().split(f"\n## {title}\n")[1].partition("\n## ")[0]


def test_a_newcomer_opens_few_files() -> None:
    paths = re.findall(r"^\| (.*?) \| (.*?) \| (\d) \|$", section("What a newcomer opens"), re.M)
    assert [int(number) for *_, number in paths] == [8, 2, 3, 3, 2, 5]  # asked: at most 8, 3, 3, 3, 2 and 5
    for _, files, number in paths:
        named = re.findall(r"`([\w./]+)`", files)
        assert all((ROOT / name).exists() for name in named), named
        assert len(named) in (0, int(number))
    assert len(set(re.findall(r"`([\w/]+\.py)", section("One training step")))) == 8
    assert len(re.findall(r"^\| (?!from|---)", section("Where a number comes from"), re.M)) == 5


def test_every_member_of_the_module_pages_is_there() -> None:
    """A name in a list of members that is gone is left out of the site without a word."""
    text = (ROOT / "docs" / "api_modules.md").read_text()
    listed = re.findall(r"^::: ([\w.]+)\n(?:    options:\n(?:      .*\n)*?      members: \[(.*?)\]\n)?", text, re.M)
    assert sum(bool(names) for _, names in listed) == 3
    for module, names in listed:
        assert all(hasattr(importlib.import_module(module), name) for name in names.split(", ") if name), module


def test_every_invariant_names_a_test() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs" / "concepts.md").read_text())
    assert len(named) == 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def example(page: str, language: str) -> str:
    """The first example of a page in a language."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    assert found is not None
    return found[1]


def test_the_example_of_a_study_composes(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "my_masking.yaml").write_text(example("extend/study.md", "yaml"))
    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        config = compose("study", ["study=my_masking", f"hydra.searchpath=[file://{tmp_path}]"])
        request = build(StudyRequest, to_plain(config))
    assert request.name == "my_masking" and request.axes["mask_rate"] == (0.15, 0.3)


def test_the_example_of_a_direction_is_one() -> None:
    before = set(DIRECTIONS)
    exec(example("extend/direction.md", "python"), {})
    [name] = set(DIRECTIONS) - before
    direction = DIRECTIONS.pop(name)
    assert direction.name == name
    assert direction.prefix_length(np.array([8, 3]), np.zeros(2, np.uint64)).tolist() == [2, 0]


def test_the_readme_is_short_and_shows_no_unknown_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    commands = set(re.findall(r"python -m experiments\.(\w+)", readme))
    assert commands and all((ROOT / "experiments" / f"{name}.py").exists() for name in commands)


def test_the_example_of_an_optimizer_trains(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: dict[str, Any] = {}
    exec(example("extend/optimizer.md", "python"), module)
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    weights.grad = torch.tensor([0.5, -0.1, 0.0])
    Update(module["Lion"]([weights], 1.0)).apply(1.0, 0.25, ProcessGroup())
    assert weights.tolist() == [0.75, -1.75, 3.0]

    def rule(config: OptimizerConfig, model: torch.nn.Module, top_rate: float) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = module["Lion"](
            build_module.parameter_groups(model, config.weight_decay), top_rate
        )
        return optimizer

    monkeypatch.setattr(optimizer_config, "NAMES", (*optimizer_config.NAMES, "lion"))
    monkeypatch.setattr(build_module, "_rule", rule)
    folder = train_tiny(tiny_run(corpus, optimizer=OptimizerConfig("lion", 1e-3, 1e-2)), tmp_path, corpus)
    assert folder.training()[-1].loss < folder.training()[0].loss - 0.15


def test_the_example_of_an_importer_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lines")
    exec(example("extend/importer.md", "python"), module.__dict__)
    monkeypatch.setitem(FORMATS, ".lines", module)
    texts = [f"The {word} key number {number} is dry." for number in range(100) for word in ("old", "new")]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "keys.lines").write_text("\n".join(texts) + "\n")
    corpus = prepare(DataConfig(kind="text", path=str(tmp_path / "text"), vocab_size=300), tmp_path, workers=1)
    documents = [ids for split in ("train", "validation", "test") for ids in corpus.documents(split)]
    assert {corpus.tokenizer.decode(ids) for ids in documents} == set(texts)
    (tmp_path / "text" / "keys.lines").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match="keys.lines.* is not UTF-8"):
        prepare(DataConfig(kind="text", path=str(tmp_path / "text"), vocab_size=300), tmp_path, workers=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a broken link or anchor is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_holds_every_page_and_nothing_of_the_network(site: Path) -> None:
    names = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    pages = {name.replace("README.md", "index.md").replace(".md", ".html") for name in names}
    assert [
        page for page in pages | {"documentation.html", "NOTEBOOK.html", "CHANGELOG.html"} if not (site / page).exists()
    ] == []
    loaded = r"""<(?:script|img|iframe|link)[^>]+(?:src|href)="?(https?://[^">]+)|url\(["']?(https?://[^)"']+)"""
    for page in [*site.glob("**/*.html"), *site.glob("site/*.css")]:
        text = page.read_text()
        assert re.findall(loaded, text) == [] and not re.search(r"<(?:protocol|hash|run|version|member)>", text), page


def test_every_link_of_the_site_leads_to_an_anchor_or_a_file(site: Path) -> None:
    pages = {page: page.read_text() for page in site.glob("**/*.html") if page.name != "404.html"}
    anchors = {page: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for page, text in pages.items()}
    checked = 0
    for page, text in pages.items():
        for target, anchor in re.findall(r'<a [^>]*href="([^"#:]*)(?:#([^"]*))?"', text):
            file = (page.parent / target).resolve() if target else page
            file = file / "index.html" if file.is_dir() else file
            assert file.exists(), (page, target)
            assert not anchor or file not in anchors or anchor in anchors[file] | {"__skip"}, (page, target, anchor)
            checked += 1
    assert checked > 1000
