"""Commands in processes of their own, forked from this one: what is imported here, they need not import again.

Not for what is decided while Python starts or libraries are imported; that needs a new interpreter.
"""

import atexit
import importlib
import logging
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

TRAINING = (
    "torch._dynamo",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
)  # a group imports them when it begins


class Process:
    """A forked process that does `action` in a folder: its own memory, signals, environment, session, and exit status."""

    def __init__(self, folder: Path, action: Callable[[], object], **variables: str) -> None:
        for module in TRAINING:
            importlib.import_module(module)
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 (as long as this lives)
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _do(action, folder, variables, self._out, self._err)

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return _read(self._out)

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return _read(self._err)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        """Its exit status. Raises TimeoutError, and kills it, when it does not end within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                self.wait()
                raise TimeoutError(f"{self.stdout[-2000:]}\n{self.stderr[-2000:]}")
            time.sleep(0.005)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def start(folder: Path, command: str, *arguments: str, **variables: str) -> Process:
    """Start `python -m <command> <arguments>` in a folder, with more environment variables."""
    importlib.import_module(command)

    def action() -> None:
        del sys.modules[command]  # what it needs stays imported; itself it runs as -m does
        sys.argv = [command, *arguments]
        runpy.run_module(command, run_name="__main__", alter_sys=True)

    return Process(folder, action, **variables)


def run(folder: Path, command: str, *arguments: str, **variables: str) -> Process:
    """The ended process of a command."""
    process = start(folder, command, *arguments, **variables)
    process.wait()
    return process


def run_group(folder: Path, action: Callable[[], object]) -> None:
    """Do an action in two processes that find each other as those of torchrun do. Raises AssertionError when one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = [Process(folder, action, RANK=str(rank), LOCAL_RANK=str(rank), **where) for rank in range(2)]
    for rank in ranks:
        if rank.wait() != 0:  # the other would wait for it
            for other in ranks:
                other.send_signal(signal.SIGKILL)
    assert [rank.wait() for rank in ranks] == [0, 0], "\n".join(rank.stderr[-3000:] for rank in ranks)


def _do(action: Callable[[], object], folder: Path, variables: dict[str, str], *streams: IO[bytes]) -> NoReturn:
    """In the child: become a fresh process, act, and end as Python does."""
    status = 1
    try:
        _be_fresh(streams)
        os.environ.update({"TOKENIZERS_PARALLELISM": "false"} | variables)  # its threads were not forked
        os.chdir(folder)
        status = _status_of(action)
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(status)


def _status_of(action: Callable[[], object]) -> int:
    """The exit status of an action, after what Python prints of its error."""
    try:
        action()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _be_fresh(streams: tuple[IO[bytes], ...]) -> None:
    """Undo what a test process has and a new interpreter has not: its streams, handlers, warnings, and what it does at exit."""
    os.setsid()
    for number, stream in zip((1, 2), streams, strict=True):
        os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    atexit._clear()
    logging.getLogger().handlers.clear()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.resetwarnings()
    for ignored in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", ignored)
    warnings.showwarning = _show


def _show(message: Warning | str, category: type[Warning], file_name: str, line: int, *_: object) -> None:
    """A warning on stderr; pytest would collect it."""
    sys.stderr.write(warnings.formatwarning(message, category, file_name, line))


def _read(stream: IO[bytes]) -> str:
    """What has been written to a stream that a process shares with this one."""
    return os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0).decode()
