"""Names are the field's words, units are short: no replaced word is an identifier, and no class name stands twice."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS = """
    Attend Body Departure Draw Exhibit Learner Make Mark Moment Opens Picture Reading Seen Shelf StopRequest Subject Surroundings
    Tally View Watch Way Work _advance _lasts account as_whole books crew door found house made mine of_part one open_keys opened
    optimisation_step other own passing prepare_at rows_by_part surroundings told wrapped
"""
REPLACED = set(WORDS.split())
FILE_LINES, FUNCTION_LINES, COMMAND_LINES = 300, 50, 200
FOLDERS = ("ettin_core", "experiments", "analysis", "hydra_plugins")
TREES = {
    path: ast.parse((ROOT / path).read_text())
    for path in sorted(file.relative_to(ROOT) for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
}


def replaced(tree: ast.AST) -> list[str]:
    """Replaced words that a module binds or reads as a name, each with its line."""
    fields = ("id", "attr", "arg", "name", "asname", "module")
    names = ((node, getattr(node, field, None)) for node in ast.walk(tree) for field in fields)
    parts = ((node, part) for node, name in names if isinstance(name, str) for part in name.split("."))
    return [f"line {getattr(node, 'lineno', 0)}: {part}" for node, part in parts if part in REPLACED]


def long_functions(tree: ast.AST) -> Iterator[str]:
    """Functions of more than FUNCTION_LINES lines; decorators are not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.name}: {length} lines"


def test_no_replaced_word_is_a_name() -> None:
    problems = {str(path): replaced(tree) for path, tree in TREES.items()}
    assert {path: names for path, names in problems.items() if names} == {}
    assert [str(path) for path in TREES if REPLACED & {part.removesuffix(".py") for part in path.parts}] == []


def test_functions_files_and_commands_are_short() -> None:
    assert {str(path): names for path, tree in TREES.items() if (names := list(long_functions(tree)))} == {}
    lines = {path: len((ROOT / path).read_text().splitlines()) for path in TREES}
    limits = {path: COMMAND_LINES if path.parent == Path("experiments") else FILE_LINES for path in TREES}
    assert {str(path): count for path, count in lines.items() if count > limits[path]} == {}


def test_no_class_name_is_used_twice() -> None:
    homes = defaultdict(list)
    for path, tree in TREES.items():
        if path.parts[0] == "ettin_core":
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    homes[node.name].append(str(path))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_a_replaced_word_and_a_long_function_would_be_seen() -> None:
    code = (
        "from a.door import b\ndef crew(own):\n    x.told = [one for one in f(made=1)]\n"
        + "    pass\n" * FUNCTION_LINES
    )
    tree = ast.parse(code)
    assert {item.split()[-1] for item in replaced(tree)} == {"door", "crew", "own", "told", "one", "made"}
    assert list(long_functions(tree)) == [f"crew: {FUNCTION_LINES + 2} lines"]
