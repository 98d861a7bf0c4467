"""Help is what the comments of the configuration files say: whole, of this command only, and there at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ettin_core.foundation.errors import UserError
from ettin_core.foundation.help import WIDTH, command_help, group_help, requested_help
from ettin_core.foundation.manual import CONFIGURATIONS, commands, keys_of, manual
from ettin_core.foundation.typos import names

ROOT = CONFIGURATIONS.parent
COMMANDS = sorted(commands())
SNAPSHOTS = Path(__file__).parent / "help"
SET_KEYS = ("study", "scale")  # groups whose files set keys of the command


@pytest.mark.parametrize("module", COMMANDS)
def test_every_key_and_group_is_explained(module: str) -> None:
    command = manual(commands()[module])
    assert command.summary.endswith((".", "?")) and len(command.examples) == 3
    assert [entry.name for entry in (*command.keys, *command.groups) if not entry.comment] == []
    assert command.docs and all((ROOT / page).is_file() for page in command.docs.split())
    assert max(map(len, command_help(commands()[module]).splitlines())) <= WIDTH


@pytest.mark.parametrize("module", COMMANDS)
def test_examples_use_keys_that_there_are(module: str) -> None:
    known = names(commands()[module])
    for example in manual(commands()[module]).examples:
        words = example.partition(" -m ")[2].replace("'", "").replace('"', "").split()[1:]
        for word in words:
            key = word.partition("=")[0].lstrip("+")
            assert word == "-m" or key in known or "=" not in word, f"{example}: {key}"


def test_every_key_of_every_choice_is_explained() -> None:
    groups = {group.folder: group for file in commands().values() for group in manual(file).groups}
    for folder, group in groups.items():
        for choice in group.choices:
            missing = [entry.name for entry in keys_of(folder, choice) if not entry.comment]
            assert missing == [], f"{folder.name}={choice}"


def reads(folders: tuple[str, ...]) -> set[str]:
    """The attributes that code reads."""
    trees = [ast.parse(file.read_text()) for folder in folders for file in (ROOT / folder).glob("**/*.py")]
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_every_key_shown_is_read() -> None:
    """That a request has a field for each key, and no other, `build` sees to whenever a command starts."""
    read = {
        "experiments": reads(("experiments", "ettin_core/planning", "ettin_core/requests", "ettin_core/studies")),
        "analysis": reads(("analysis",)),
    }
    for module, file in commands().items():
        command = manual(file)
        shown = [entry.name for entry in command.keys]
        shown += [name.name.partition("@")[2] or name.name for name in command.groups if name.name not in SET_KEYS]
        place = read["analysis" if "override hydra/job_logging" in file.read_text() else "experiments"]
        assert [name for name in shown if name.partition(".")[0] not in place] == [], module


@pytest.mark.parametrize("name", ["export", "prepare"])
def test_help_stays_as_it_is(name: str) -> None:
    """Written anew by: python -m experiments.<name> --help > tests/foundation/help/<name>.txt"""
    assert command_help(CONFIGURATIONS / f"{name}.yaml") + "\n" == (SNAPSHOTS / f"{name}.txt").read_text()


def test_a_command_shows_its_groups_and_no_others() -> None:
    assert "Groups" not in command_help(CONFIGURATIONS / "export.yaml")
    shown = [group.name for group in manual(CONFIGURATIONS / "convert.yaml").groups]
    assert shown == ["member", "adapter", "optimizer", "recipe", "placement"]
    assert manual(CONFIGURATIONS / "convert.yaml").groups[0].value == "required"


def test_what_builds_on_another_command_has_its_keys() -> None:
    search, train = (manual(CONFIGURATIONS / f"{name}.yaml") for name in ("search", "train"))
    assert {entry.name for entry in train.keys} < {entry.name for entry in search.keys}
    plan = {group.name: group.value for group in manual(CONFIGURATIONS / "plan.yaml").groups}
    assert plan["recipe"] == "three_phases" and plan["size"] == "nano"


def test_a_group_shows_its_choices_and_keys() -> None:
    text = group_help(CONFIGURATIONS / "train.yaml", "recipe")
    assert "miniature" in text and "Keys of recipe=laptop" in text
    assert any(line.split()[:2] == ["phases.decay.context", "256"] for line in text.splitlines())
    with pytest.raises(UserError, match="--help='recpie' is not a group of train; did you mean 'recipe'"):
        group_help(CONFIGURATIONS / "train.yaml", "recpie")


def test_help_is_asked_for_by_name() -> None:
    file = CONFIGURATIONS / "train.yaml"
    assert requested_help(file, ["seed=1"]) is None
    assert requested_help(file, ["size=nano", "-h"]) == command_help(file) == requested_help(file, ["--help", "seed=1"])
    assert "usage: ettin train [key=value ...]" in str(requested_help(file, ["--help"], "ettin train"))


@pytest.mark.parametrize("line", [["experiments.train", "--help"], ["analysis.report", "-h"]])
def test_help_imports_nothing_slow(line: list[str]) -> None:
    code = f"""if True:
        import importlib, sys
        sys.orig_argv = ["python", "-m", *{line}]
        try:
            importlib.import_module("{line[0].partition(".")[0]}")
        except SystemExit as end:
            assert not end.code and not {{"torch", "hydra", "numpy"}} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and f"usage: python -m {line[0]}" in done.stdout, done.stderr
