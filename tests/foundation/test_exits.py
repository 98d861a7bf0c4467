"""How commands end: one line for what the user or the disk caused, a traceback for a fault of the program, 75 for signals."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ettin_core.foundation.errors import BusyError, DiskFullError, UserError, invalid
from ettin_core.foundation.exits import StopRequested, ending_in_one_line, line_of, status_of

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = "import os, signal, sys\nfrom ettin_core.foundation.exits import ending_in_one_line\nwith ending_in_one_line():\n    "


def ended(action: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """A process whose command is `action`."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + action], cwd=ROOT, capture_output=True, text=True, timeout=60, **options
    )  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (invalid("a", 1, "is wrong", "use 2"), 2, "a=1 is wrong; use 2."),
        (BusyError("x is being trained"), 75, "x is being trained"),
        (DiskFullError(errno.ENOSPC, "disk full while writing x"), 2, "[Errno 28] disk full while writing x"),
        (StopRequested("saved"), 75, "saved"),
        (StopRequested("saved", interrupted=True), 130, "saved"),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/x"),
            2,
            "file='runs/x': Permission denied; change its",
        ),
        (OSError(errno.EROFS, "Read-only file system", b"runs"), 2, "file='runs': Read-only file system; the disk"),
        (OSError(errno.EIO, "Input/output error", "runs/x"), 1, "file='runs/x': Input/output error; look at the disk"),
        (OSError(errno.ECONNREFUSED, "refused"), 1, None),
        (KeyError("x"), 1, None),
    ],
)
def test_status_and_line_of_an_error(error: Exception, status: int, line: str | None) -> None:
    assert status_of(error) == status
    assert (line_of(error) or "").startswith(line) if line is not None else line_of(error) is None


@pytest.mark.parametrize("path", ["file/x/config.json", "nothing/there", "l" * 300])
def test_a_place_that_cannot_be_is_one_line(path: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end, ending_in_one_line():
        (tmp_path / path).read_bytes()
    stderr = capfd.readouterr().err
    assert end.value.code == 2 and stderr.startswith("error: file=") and stderr.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), ending_in_one_line():
        1 / 0  # noqa: B018


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_training_asks_for_a_requeue(number: signal.Signals) -> None:
    done = ended(f"os.kill(os.getpid(), signal.{number.name})\n    signal.pause()")
    assert done.returncode == 75 and done.stderr == f"\n{number.name}: start the same command again to continue\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_within_a_destructor_ends_the_command_too(number: signal.Signals, status: int) -> None:
    action = "import time\n    class Held:\n        def __del__(self):\n"
    action += f"            os.kill(os.getpid(), signal.{number.name}); time.sleep(0.01)\n"
    done = ended(action + "    Held()\n    time.sleep(20)\n    print('went on')")
    assert done.returncode == status and "went on" not in done.stdout and "Exception ignored" not in done.stderr


def test_a_forked_worker_dies_of_the_signal_in_silence() -> None:
    done = ended(
        "reading, writing = os.pipe()\n    child = os.fork()\n    if child == 0:\n"
        "        os.write(writing, b'x')\n        signal.pause()\n    os.read(reading, 1)\n"
        "    os.kill(child, signal.SIGTERM)\n    print(os.WTERMSIG(os.waitpid(child, 0)[1]))"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{int(signal.SIGTERM)}\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_that_cannot_show_a_letter_shows_an_escape(encoding: str) -> None:
    done = ended("print('α ü end')", env=os.environ | {"PYTHONIOENCODING": encoding}, errors="replace")
    assert done.returncode == 0 and done.stdout.endswith("end\n") and done.stderr == ""


def test_a_reader_that_leaves_ends_the_command_in_silence() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    action = "print('x' * 100_000)"
    done = subprocess.run([sys.executable, "-c", PRELUDE + action], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 141 and done.stderr == b""


def test_ctrl_c_is_130() -> None:
    done = ended("raise KeyboardInterrupt")
    assert done.returncode == 130 and "interrupted: start the same command again" in done.stderr
    assert issubclass(BusyError, UserError)


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        ("os.close(1); sys.stdout = None", 0, ""),
        ("os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('x')", 1, "error: stdout: No space left on device; "),
        (
            "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); os.getcwd()",
            2,
            "error: the current folder: No such",
        ),
    ],
)
def test_streams_and_the_current_folder_end_in_one_line(action: str, status: int, message: str, tmp_path: Path) -> None:
    done = ended(f"os.chdir({str(tmp_path)!r}); {action}")
    assert done.returncode == status and done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == bool(message), done.stderr
