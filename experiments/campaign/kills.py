"""Faults of real runs: SIGKILLs while they train, and damaged checkpoints, compared with an undisturbed run."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ettin_core.foundation.errors import RunStopped
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.override_text import assignment
from ettin_core.foundation.storage import hash_file
from ettin_core.records.folders import RunFolder

MEMBERS = {
    "encoder": ["member=encoder"],
    "decoder": ["member=decoder"],
    "mntp": ["member=encoder", "member.name=mntp", "member.objective.name=mntp"],
}
HEADER = f"{'member':<10}{'fault':<40}{'where':<28}outcome"
LONGEST = 0.5  # of the time that the whole training takes: the longest that a session may train


class MemberFaults:
    """Every fault of one member's run, in the folders `undisturbed` and `disturbed` of `out`."""

    def __init__(self, member: str, tokens: int, out: Path, generator: random.Random) -> None:
        self.member, self.tokens, self.out, self.generator = member, tokens, out, generator

    def all(self, kills: int) -> list[str]:
        """Every fault in turn; returns those after which the run ended differently."""
        self._finish("undisturbed")
        self.undisturbed_seconds = self._folder("undisturbed").timing()[-1].seconds
        expected = result_hashes(self._folder("undisturbed"))
        differing: list[str] = []
        hits = since = 0
        while hits < kills:
            if self._kill(writing=hits % 3 == 2):
                hits, since = hits + 1, since + 1
            else:  # it came to its end
                differing += self._compare(f"{since} kills", expected)
                shutil.rmtree(self.out / "disturbed")
                since = 0
        self._finish("disturbed")
        differing += self._compare(f"{since} kills", expected)
        for name, damage in DAMAGES.items():
            differing += self._damage(name, damage, expected)
        return differing

    def _command(self, runs: str) -> subprocess.Popen[str]:
        options = [*MEMBERS[self.member], "recipe=smoke", f"recipe.tokens={self.tokens}", "recipe.max_epochs=1000"]
        options += ["data.documents=1500", "data.vocab_size=1024", "checkpoint.every_steps=5", "placement.log_every=2"]
        options += [assignment("runs_dir", self.out / runs), assignment("corpora_dir", self.out / "corpora")]
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.train", *options],
            env=os.environ | {"PYTHONPATH": str(CONFIGURATIONS.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _finish(self, runs: str) -> str:
        process = self._command(runs)
        output, _ = process.communicate()
        if process.returncode:
            raise RunStopped(f"{self.member} did not finish:\n{output[-2000:]}")
        return output

    def _folder(self, runs: str) -> RunFolder:
        (folder,) = [path for path in (self.out / runs).glob(f"*-{self.member}-*") if path.is_dir()]
        return RunFolder(folder)

    def _kill(self, writing: bool) -> bool:
        """One SIGKILL: at a random moment after the first step, or when a checkpoint is being written.

        Returns False when the run ended before.
        """
        begin, process = time.time(), self._command("disturbed")
        limit: float | None = None
        while process.poll() is None and (limit is None or time.monotonic() < limit):
            if writing and self._young("checkpoints/.*.building", begin):
                break
            if not writing and limit is None and self._young("heartbeat.json", begin):
                limit = time.monotonic() + self.generator.uniform(0, LONGEST) * self.undisturbed_seconds
            time.sleep(0.0005)
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not ended:
            fault = "SIGKILL while a checkpoint is written" if writing else "SIGKILL at a random moment"
            self._print(fault, self._where(), "")
        return not ended

    def _young(self, pattern: str, moment: float) -> bool:
        """Whether the run has touched a file or folder of this pattern since a moment. What an earlier kill left is older."""
        with contextlib.suppress(FileNotFoundError):  # it may go between two looks
            return any(path.stat().st_mtime > moment for path in (self.out / "disturbed").glob(f"*/{pattern}"))
        return False

    def _where(self) -> str:
        """The newest checkpoint on disk."""
        checkpoints = (self.out / "disturbed").glob("*/checkpoints/[!.]*")
        newest = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
        return f"after {newest.name}" if newest else "before the first checkpoint"

    def _damage(self, name: str, damage: Callable[[Path], None], expected: dict[str, str]) -> list[str]:
        folder = self._folder("disturbed")
        last = folder.checkpoints / str(folder.summary()["final_checkpoint"])
        (folder.path / "COMPLETE").unlink()
        damage(last)
        output = self._finish("disturbed")
        if last.name not in output or "Trying the checkpoint before it" not in output:
            return [f"{name} (no message names it)"]
        return self._compare(name, expected)

    def _compare(self, fault: str, expected: dict[str, str]) -> list[str]:
        hashes = result_hashes(self._folder("disturbed"))
        differing = [name for name in expected if hashes[name] != expected[name]]
        self._print(fault, "the end", f"differs: {', '.join(differing)}" if differing else "the same, byte for byte")
        return [f"{fault} ({', '.join(differing)})"] if differing else []

    def _print(self, fault: str, where: str, outcome: str) -> None:
        print(f"{self.member:<10}{fault:<40}{where:<28}{outcome}", flush=True)


def result_hashes(folder: RunFolder) -> dict[str, str]:
    """Hashes of what must be reproduced."""
    last = folder.checkpoints / str(folder.summary()["final_checkpoint"])
    files = {
        "weights": last / "model.safetensors",
        "optimiser": last / "optimizer.safetensors",
        "training rows": folder.metrics_file,
        "data order": folder.data_order_file,
    }
    return {name: hash_file(path) for name, path in files.items()}


def _truncate(checkpoint: Path) -> None:
    file = checkpoint / "optimizer.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def _flip(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _remove(checkpoint: Path) -> None:
    (checkpoint / "state.json").unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "newest checkpoint truncated": _truncate,
    "one bit of it flipped": _flip,
    "a file of it missing": _remove,
}
