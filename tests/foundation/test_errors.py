"""Errors, provenance, and the process group of one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ettin_core.foundation import provenance
from ettin_core.foundation.distributed import ProcessGroup, join
from ettin_core.foundation.errors import UserError, invalid
from ettin_core.foundation.exits import ending_in_one_line
from ettin_core.foundation.terminal import printable

ROOT = Path(__file__).resolve().parents[2]


def test_an_error_says_field_value_problem_and_remedy() -> None:
    error = invalid("size", "17n", "is not a known size", "use one of nano, micro")
    assert isinstance(error, ValueError)
    assert str(error) == "size='17n' is not a known size; use one of nano, micro."


def test_provenance_names_code_libraries_machine_and_command() -> None:
    origin = provenance.provenance()
    assert set(origin) == {"commit", "dirty", "code", "libraries", "machine", "command"}
    assert origin["libraries"]["torch"] == torch.__version__.split("+")[0] or "+" in origin["libraries"]["torch"]
    assert len(str(origin["code"])) == 64


def test_an_installed_copy_within_a_repository_of_others_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    file = tmp_path / ".venv" / "ettin_core" / "foundation" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    (tmp_path / "theirs.py").write_text("")
    git("init", "-q")
    git("add", "theirs.py")
    git("commit", "-qm", "theirs")
    monkeypatch.setattr(provenance, "__file__", str(file))
    state = provenance.git_state.__wrapped__
    assert state() == {"commit": None, "dirty": None}
    git("add", "-f", ".")
    git("commit", "-qm", "ours")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))  # as within a hook of another repository
    assert len(str(state()["commit"])) == 40 and state()["dirty"] is False
    file.write_text("x = 1")
    assert state()["dirty"] is True


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ("data.path=/home/me/texts", "data.path=texts"),
        ("runs=[/a/b, ~/c/d/]", "runs=[b, d]"),
        ("sources={a:{path:'/home/my self/x.txt'}}", "sources={a:{path:'x.txt'}}"),
        ("url=https://hub.example/a/b", "url=https://hub.example/a/b"),
        ("file:///home/me/x", "x"),
        ("budget=1/2", "budget=1/2"),
        ("run=runs/nano-encoder", "run=runs/nano-encoder"),
    ],
)
def test_a_published_command_names_no_folder_of_the_machine(given: str, published: str) -> None:
    assert provenance.without_places(given) == published


def test_the_code_hash_changes_with_one_character_or_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hash_of(name: str, text: str) -> str:
        root = tmp_path / f"{name}{len(text)}" / "ettin_core"
        (root / "foundation").mkdir(parents=True)
        (root / "foundation" / "provenance.py").write_text("")
        (root / name).write_text(text)
        monkeypatch.setattr(provenance, "__file__", str(root / "foundation" / "provenance.py"))
        return provenance.code_hash.__wrapped__()

    assert len({hash_of("a.py", "x"), hash_of("a.py", "xx"), hash_of("b.py", "x")}) == 3


def test_a_terminal_obeys_nothing_that_others_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[31mb\u202ec\r\x07\u2028\x9b") == r"a\x1b[31mb\u202ec\r\x07\u2028\x9b"
    assert printable("ü 北京\u00a0می\u200cخواهم\nnext") == "ü 北京\u00a0می\u200cخواهم\nnext"
    with pytest.raises(SystemExit), ending_in_one_line():
        raise invalid("data.path", "x", "holds \x1b]0;title\x07", "mend it")
    assert r"holds \x1b]0;title\x07; mend it" in capsys.readouterr().err


def test_foundation_but_for_the_process_group_imports_without_torch() -> None:
    names = ["errors", "provenance", "randomness", "source_code", "storage", "strict_config"]
    code = "import sys; " + "; ".join(f"import ettin_core.foundation.{name}" for name in names)
    code += "; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_process_alone_is_the_whole_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    group = join()
    assert group == ProcessGroup(rank=0, world_size=1, local_rank=0) and group.is_main
    assert group.sum(torch.tensor([3, 4])).tolist() == [3, 4]
    group.barrier()


GROUP = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict.fromkeys(("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")), "WORLD_SIZE=None is missing beside RANK=0"),
        (dict.fromkeys(("MASTER_ADDR", "MASTER_PORT")), "MASTER_ADDR=None is missing beside RANK=0"),
        ({"RANK": "zero"}, "RANK='zero' is not a number"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE='-1' is not a number"),
        ({"RANK": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT='70000' is not a port \\(0 to 65535\\)"),
    ],
)
def test_variables_of_a_group_that_is_not_there(
    changes: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (GROUP | changes).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{message}; unset RANK to train in one process, or start with torchrun"):
        join("gloo")


def test_only_rank_zero_is_main() -> None:
    assert [ProcessGroup(rank, 3).is_main for rank in range(3)] == [True, False, False]
