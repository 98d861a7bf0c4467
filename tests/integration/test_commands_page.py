"""The commands of docs/commands.md, docs/clusters.md and docs/merging.md, copied out of them and run in a tiny setting."""

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).resolve().parents[2]
PAGE = "".join((ROOT / "docs" / name).read_text() for name in ("commands.md", "clusters.md", "merging.md"))
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S) for line in block.strip().splitlines()]
# Those that take half a minute even when tiny; marked slow.
LONGER = (
    "size=micro",
    "study=factorial",
    "train -m",
    "experiments.search",
    "experiments.faults",
    "experiments.benchmark ",
    "experiments.benchmark_data",
)
# What makes each command tiny. The commands themselves stay as printed.
SMALLER = {
    "experiments.study": " recipe=smoke recipe@conversion=smoke_conversion suite=smoke data.vocab_size=1024",
    "experiments.status": " recipe=smoke recipe@conversion=smoke_conversion suite=smoke data.vocab_size=1024",
    "experiments.train": " recipe=smoke data.documents=1500 data.vocab_size=1024",
    "experiments.search": " recipe=smoke suite=smoke trials=1 data.documents=1500 data.vocab_size=1024",
    "experiments.convert": " recipe=smoke_conversion",
    "experiments.evaluate": " suite=smoke",
    "experiments.boundaries": " tokens=2048",
    "experiments.plan": " sizes=[17m,1b]",
    "experiments.faults": " kills=1 tokens=20000 members=[encoder]",
    "experiments.benchmark": " rounds=2",
    "experiments.benchmark_data": " megabytes=1 whole=true rounds=1 corpus_tokens=1e6 contexts=[128]",
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder with some text of their own."""
    folder = tmp_path_factory.mktemp("newcomer")
    text = " ".join(f"The {word} cat sat on mat number {number}." for number in range(40) for word in ("old", "new"))
    (folder / "my_text").mkdir()
    for number in range(400):
        (folder / "my_text" / f"{number}.txt").write_text(f"Document {number}. {text}")
    return folder


def smaller(command: str) -> str:
    """The command with tiny settings at its end."""
    module = command.split()[2] if command.startswith("python -m") else ""
    options = SMALLER.get(module, "")
    if "data=text" not in command and module in ("experiments.study", "experiments.status"):
        options += " data.documents=1500"
    if "study=factorial" in command:  # whose file sets the tokens after the recipe
        options += " recipe.tokens=20000 axes.seed=[21] axes.objective=[mlm,clm]"
    return command + options


def words(command: str, folder: Path) -> list[str]:
    """The words of a command line as a shell in the folder passes them on, with what stands in $(...) filled in."""
    line = ["bash", "-c", f"printf '%s\\0' {command}"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def run_all(commands: list[str], folder: Path) -> None:
    """Run commands one after another; each must end well."""
    for command in commands:
        python, minus_m, module, *arguments = words(smaller(command), folder)
        assert (python, minus_m) == ("python", "-m")
        done = processes.run(folder, module, *arguments)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_longer_commands_of_the_docs_run(tmp_path: Path) -> None:
    commands = [command for command in COMMANDS if any(word in command for word in LONGER)]
    assert len(commands) == len(LONGER)
    run_all(commands, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_docs_run(workplace: Path) -> None:
    commands = [command for command in COMMANDS if not any(word in command for word in LONGER)]
    assert len(commands) >= 15
    run_all(commands, workplace)
    assert (workplace / "report" / "index.html").exists()
    for python in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        if "OBJECTIVE" not in python:  # tests/objectives has that one
            done = processes.Process(workplace, partial(exec, python, {}))
            done.wait()
            assert done.returncode == 0, done.stderr[-1500:]
            assert "print" not in python or "token_str" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_sweep_of_the_studies_page_is_reported(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "studies.md").read_text()
    block = re.search(r"## A sweep without a file.*?```bash\n(.*?)```", page, re.S)
    assert block is not None
    run_all(block[1].strip().splitlines(), tmp_path)
    header, *rows = (tmp_path / "report" / "sweep.csv").read_text().splitlines()
    assert "optimizer.learning_rate" in header and len(rows) == 2
    assert (tmp_path / "report" / "sweep-optimizer-learning-rate.png").exists()
