"""Real commands in processes that begin as copies of this one, so that no case pays for the imports of torch.

A copy has its own folder, streams, environment, user and limits, and leaves nothing in the process that counts.
"""

import contextlib
import importlib
import io
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

LONGEST = 90.0  # seconds that a case may take
STATUS_OF_FAULT = 1
WHEN_THEY_WORK = ("transformers.models.modernbert.modeling_modernbert", "transformers.models.auto.modeling_auto")


@dataclass(frozen=True)
class Environment:
    """What a command depends on beside its arguments: variables (None: not set), stream encoding, user, memory."""

    variables: Mapping[str, str | None] = field(default_factory=dict)
    encoding: str = "utf-8"
    user: int | None = None
    memory: int | None = None  # bytes
    before: Callable[[], None] = lambda: None  # done in the process itself, e.g. to close a stream


PLAIN = Environment()


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status (negative: by this signal; None: it did not end) and what it printed."""

    status: int | None
    out: str
    err: str

    @property
    def line(self) -> str:
        """The last line on stderr that says something."""
        lines = [line.strip() for line in self.err.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1] if lines else ""


def preload(commands: Iterable[str]) -> None:
    """Import commands, and what they import when they work, into this process, so that its copies have them."""
    for name in (*commands, *WHEN_THEY_WORK):
        importlib.import_module(name)


class Process:
    """A command that was started in a folder."""

    number = 0

    def __init__(
        self, command: str, arguments: tuple[str, ...], folder: Path, environment: Environment = PLAIN
    ) -> None:
        Process.number += 1
        self.streams = [folder / f".{Process.number}.{name}" for name in ("out", "err")]
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if self.process == 0:
            _become(command, arguments, folder, environment, self.streams)

    def signal(self, number: int) -> None:
        """Send a signal to the command, not to what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, number)

    def wait(self, seconds: float = LONGEST) -> Ended:
        """Wait for the end; what does not end in time is killed with all that it started."""
        limit, status = time.monotonic() + seconds, None
        while True:
            ended, code = os.waitpid(self.process, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(code)
                break
            if time.monotonic() > limit:
                break
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process, signal.SIGKILL)
        if status is None:
            os.waitpid(self.process, 0)
        out, err = (path.read_bytes().decode(errors="replace") if path.exists() else "" for path in self.streams)
        for path in self.streams:
            path.unlink(missing_ok=True)
        return Ended(status, out, err)


def run(command: str, *arguments: str, folder: Path, environment: Environment = PLAIN) -> Ended:
    """Run a command in a folder to its end."""
    return Process(command, arguments, folder, environment).wait()


def _become(
    command: str, arguments: tuple[str, ...], folder: Path, environment: Environment, streams: list[Path]
) -> None:
    """Be the command, in a copy of this process. Does not return."""
    status = STATUS_OF_FAULT
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _redirect(streams)
        os.chdir(folder)
        module = importlib.import_module(command)
        GlobalHydra.instance().clear()  # of the process that counts
        for name, value in environment.variables.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        if environment.memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (environment.memory, environment.memory))
        if environment.user is not None:
            os.setgroups([])
            os.setresgid(environment.user, environment.user, environment.user)
            os.setresuid(environment.user, environment.user, environment.user)
        environment.before()
        _wrap(environment.encoding)
        sys.argv = [command, *arguments]
        module.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        os._exit(status)


def _redirect(paths: list[Path]) -> None:
    """Read nothing and write to files from now on."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)


def _wrap(encoding: str) -> None:
    """Python's streams, as it makes them when it starts: None where one is closed, and strict about letters."""
    for number, name in enumerate(("stdout", "stderr"), start=1):
        try:
            raw = open(number, "wb", closefd=False)  # noqa: SIM115
        except OSError:
            setattr(sys, name, None)
            continue
        errors = "strict" if name == "stdout" else "backslashreplace"
        setattr(sys, name, io.TextIOWrapper(raw, encoding, errors, line_buffering=name == "stderr"))


def ready(process: Process, seconds: float = 20.0) -> None:
    """Wait until the command handles SIGTERM itself (read from /proc; other systems do not wait)."""
    limit, status = time.monotonic() + seconds, Path(f"/proc/{process.process}/status")
    while (
        not process.streams[0].exists() and time.monotonic() < limit
    ):  # before it is a copy with the counter's handlers
        time.sleep(0.002)
    while status.exists() and time.monotonic() < limit:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)
