"""Which source files a number comes from: the modules behind an entry, each with a hash of what it says. Imports without torch.

What a module imports is read from its syntax tree, so an entry's modules are known without running any of them, and a new
file that nothing imports changes nothing. A hash leaves out comments, docstrings and layout: they move no number.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ettin_core"
HASH_LENGTH = 12

Hashes = dict[str, str]  # by module, named without the package


def hashes(entries: Iterable[str], packages: Iterable[str], without: Iterable[str] = ()) -> Hashes:
    """The modules that the `entries` import, directly or not, each with its hash.

    Kept are those of the `packages`, without those named in `without`. Names do not begin with "ettin_core.".
    """
    kept, left_out, modules = tuple(packages), frozenset(without), set(entries)
    waiting = list(modules)
    while waiting:
        new = _module(ROOT, waiting.pop())[1] - modules
        modules |= new
        waiting += new
    short = sorted(name.removeprefix(f"{PACKAGE}.") for name in modules)
    chosen = [name for name in short if name.partition(".")[0] in kept and name not in left_out]
    return {name: _module(ROOT, f"{PACKAGE}.{name}")[0] for name in chosen}


def is_module(name: str) -> bool:
    """Whether a name is that of a module here, whose source can be hashed."""
    return _file(ROOT, name) is not None


def changed(before: Hashes, now: Hashes) -> list[str]:
    """The modules that differ, or are in one of the two only."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


@functools.cache
def _module(root: Path, name: str) -> tuple[str, set[str]]:
    """The hash of a module, and the modules of the package that it imports."""
    path = _file(root, name)
    assert path is not None, f"{name} is not a module"
    code, named = _read(path.read_bytes(), name if path.name == "__init__.py" else name.rpartition(".")[0])
    return code, {module for module in named if _file(root, module) is not None}


@functools.cache
def _read(source: bytes, package: str) -> tuple[str, set[str]]:
    """The hash of a module's source, and the names in the package that it imports: modules and what is in them."""
    tree = ast.parse(source)
    named = {module for module in _imports(tree, package) if module.startswith(f"{PACKAGE}.")}
    return hashlib.sha256(repr(_meaning(tree)).encode()).hexdigest()[:HASH_LENGTH], named


def _file(root: Path, name: str) -> Path | None:
    path = root.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """What a module's import statements name, those within functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            yield module
            yield from (f"{module}.{item.name}" for item in node.names)


def _meaning(node: Any) -> Any:
    """A syntax tree as plain values, without docstrings and empty fields (which empty ones there are depends on Python)."""
    if isinstance(node, list):
        return [_meaning(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields = [(name, value[1:] if name == "body" else value) for name, value in fields]
    return type(node).__name__, [(name, _meaning(value)) for name, value in fields if name != "ctx"]
