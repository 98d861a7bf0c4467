"""python -m experiments.faults: kill real runs at random moments, damage their checkpoints, and compare with undisturbed ones.

Every member is trained once undisturbed, then under SIGKILLs: at random moments of its training, and as soon as a checkpoint
is seen being written. A run that ends between two kills is compared and begun anew, so every kill that counts hits a living
process. Then the newest checkpoint is damaged in each way and the end is trained again. Weights, optimiser state, training
rows and data order must always be those of the undisturbed run, byte for byte.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ettin_core.foundation.errors import RunStopped, invalid
from ettin_core.foundation.folders import emptied_folder
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.override_text import assignment
from ettin_core.foundation.storage import hash_file
from ettin_core.records.folders import RunFolder
from experiments.cli.entry import entry

MAKER = "fault campaign"
MEMBERS = {
    "encoder": ["member=encoder"],
    "decoder": ["member=decoder"],
    "mntp": ["member=encoder", "member.name=mntp", "member.objective.name=mntp"],
}
HEADER = f"{'member':<10}{'fault':<40}{'where':<28}outcome"
LONGEST = 0.5  # of the time that the whole training takes: the longest that a session may train


@dataclass(frozen=True)
class FaultsRequest:
    """conf/faults.yaml."""

    members: tuple[str, ...]
    kills: int
    seed: int
    tokens: int
    out: str

    def __post_init__(self) -> None:
        if self.kills < 1:
            raise invalid("kills", self.kills, "is not positive", "use 30")
        for member in self.members:
            if member not in MEMBERS:
                raise invalid("members", member, "is not a member", f"use some of {', '.join(MEMBERS)}")


@entry("faults", FaultsRequest)
def main(request: FaultsRequest) -> None:
    """Run the campaign and print its table; raises RunStopped when a run did not come back the same."""
    with emptied_folder(Path(request.out), MAKER) as out:
        campaign(request, out)


def campaign(request: FaultsRequest, out: Path) -> None:
    """Every fault of every member, in an empty folder."""
    chance = random.Random(request.seed)
    print(HEADER, flush=True)
    differing = []
    for number, member in enumerate(request.members):
        share = request.kills // len(request.members) + (number < request.kills % len(request.members))
        differing += [f"{member}: {name}" for name in Campaign(member, request.tokens, out, chance).all(share)]
    if differing:
        raise RunStopped("not the same as undisturbed: " + ", ".join(differing))
    damaged = len(DAMAGES) * len(request.members)
    print(f"{request.kills} kills, {damaged} damaged checkpoints: every run ended byte for byte the same")


class Campaign:
    """The faults of one member."""

    def __init__(self, member: str, tokens: int, out: Path, chance: random.Random) -> None:
        self.member, self.tokens, self.out, self.chance = member, tokens, out, chance

    def all(self, kills: int) -> list[str]:
        """Every fault in turn; returns which of them the run did not come back from unchanged."""
        self._finish("undisturbed")
        self.seconds = self._folder("undisturbed").timing()[-1].seconds
        expected = evidence(self._folder("undisturbed"))
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
        told, _ = process.communicate()
        if process.returncode:
            raise RunStopped(f"{self.member} did not finish:\n{told[-2000:]}")
        return told

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
                limit = time.monotonic() + self.chance.uniform(0, LONGEST) * self.seconds
            time.sleep(0.0005)
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not ended:
            fault = "SIGKILL while a checkpoint is written" if writing else "SIGKILL at a random moment"
            self._tell(fault, self._where(), "")
        return not ended

    def _young(self, pattern: str, moment: float) -> bool:
        """Whether the run has touched such a file or folder since a moment; what an earlier kill left is older."""
        with contextlib.suppress(FileNotFoundError):  # it may go between two looks
            return any(path.stat().st_mtime > moment for path in (self.out / "disturbed").glob(f"*/{pattern}"))
        return False

    def _where(self) -> str:
        """The newest checkpoint on disk."""
        checkpoints = (self.out / "disturbed").glob("*/checkpoints/[!.]*")
        found = sorted(checkpoints, key=lambda path: path.stat().st_mtime)
        return f"after {found[-1].name}" if found else "before the first checkpoint"

    def _damage(self, name: str, damage: Callable[[Path], None], expected: dict[str, str]) -> list[str]:
        folder = self._folder("disturbed")
        last = folder.checkpoints / str(folder.summary()["final_checkpoint"])
        (folder.path / "COMPLETE").unlink()
        damage(last)
        told = self._finish("disturbed")
        if last.name not in told or "Trying the checkpoint before it" not in told:
            return [f"{name} (not refused by name)"]
        return self._compare(name, expected)

    def _compare(self, fault: str, expected: dict[str, str]) -> list[str]:
        found = evidence(self._folder("disturbed"))
        differing = [name for name in expected if found[name] != expected[name]]
        self._tell(fault, "the end", f"differs: {', '.join(differing)}" if differing else "the same, byte for byte")
        return [f"{fault} ({', '.join(differing)})"] if differing else []

    def _tell(self, fault: str, where: str, outcome: str) -> None:
        print(f"{self.member:<10}{fault:<40}{where:<28}{outcome}", flush=True)


def evidence(folder: RunFolder) -> dict[str, str]:
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


if __name__ == "__main__":
    main()
