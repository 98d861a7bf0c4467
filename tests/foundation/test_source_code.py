"""The hashes of the code behind a number: what changes them, what does not, and which modules they cover."""

import hashlib
from pathlib import Path

import pytest

from ettin_core.foundation import source_code

FILES = {
    "__init__.py": "",
    "core/__init__.py": "",
    "core/entry.py": '"""Why."""\nfrom ettin_core.core import near\nfrom ettin_core.core.kinds import used\nimport numpy\n',
    "core/near.py": "def work(x):\n    from . import late\n    return x + late.ONE\n",
    "core/late.py": "ONE = 1\n",
    "core/unused.py": "TWO = 2\n",
    "core/kinds/__init__.py": "",
    "core/kinds/used.py": "from ettin_core.other.far import THREE\n",
    "other/__init__.py": "",
    "other/far.py": "THREE = 3\n",
}

MEANING = (
    "('Module', [('body', [('Assign', [('targets', [('Name', [('id', 'ONE')])]), "
    "('value', ('Constant', [('value', 1)]))])])])"
)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in the place of ours."""
    for name, text in FILES.items():
        (tmp_path / "ettin_core" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ettin_core" / name).write_text(text)
    monkeypatch.setattr(source_code, "ROOT", tmp_path)
    return tmp_path / "ettin_core"


def now(packages: tuple[str, ...] = ("core",), without: tuple[str, ...] = ()) -> source_code.Hashes:
    source_code._module.cache_clear()
    return source_code.hashes(["ettin_core.core.entry"], packages, without)


def test_covered_is_what_the_entry_imports_however_it_is_imported(tree: Path) -> None:
    assert set(now()) == {"core", "core.entry", "core.near", "core.late", "core.kinds", "core.kinds.used"}
    assert set(now(("core", "other"), ("core.late",))) >= {"other.far", "core.near"}
    assert "core.late" not in now(without=("core.late",))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("core/entry.py", '# said otherwise\n"""For something else."""\n' + FILES["core/entry.py"].split("\n", 1)[1]),
        (
            "core/near.py",
            'def work(x):\n    """Add one."""\n\n    from . import late  # not before\n    return (x + late.ONE)\n',
        ),
        ("core/unused.py", "TWO = 3\n"),
        ("core/kinds/new.py", "from ettin_core.core import unused\n"),
        ("other/far.py", "THREE = 4\n"),
    ],
)
def test_words_and_files_that_are_not_imported_change_nothing(tree: Path, file: str, text: str) -> None:
    before = now()
    (tree / file).write_text(text)
    assert now() == before


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("core/late.py", "ONE = 1.0\n", ["core.late"]),
        ("core/late.py", "ONE = True\n", ["core.late"]),
        (
            "core/near.py",
            'def work(x):\n    from . import late\n    "not a docstring"\n    return x - late.ONE\n',
            ["core.near"],
        ),
        ("core/entry.py", FILES["core/entry.py"] + "import ettin_core.core.unused\n", ["core.entry", "core.unused"]),
        ("core/kinds/used.py", "", ["core.kinds.used"]),
    ],
)
def test_what_changed_is_named(tree: Path, file: str, text: str, named: list[str]) -> None:
    before = now()
    (tree / file).write_text(text)
    assert source_code.changed(before, now()) == named


def test_another_python_hashes_the_same(tree: Path) -> None:
    """The hash is of the tree's meaning, not of how a version of Python writes it down."""
    assert now()["core.late"] == hashlib.sha256(MEANING.encode()).hexdigest()[: source_code.HASH_LENGTH]
