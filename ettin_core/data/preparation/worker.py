"""python -m ettin_core.data.preparation.worker <folder>: one worker of a preparation. Takes part numbers from its standard input.

A new process and not a fork, because the parent may have threads and a gigabyte of libraries. It answers in JSON lines:
ticks of work done, the end of a part, or an error. When its input ends, as it does when the parent dies, it ends at once; a
part that is not finished does not count.
"""

import json
import os
import queue
import sys
import threading
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

from ettin_core.data.held_out import HeldOut
from ettin_core.data.preparation.partitions import Tick, write_held_out, write_part, write_signatures
from ettin_core.data.preparation.plan import Plan
from ettin_core.data.tokenizer import Tokenizer
from ettin_core.foundation.errors import DiskFullError, UserError
from ettin_core.foundation.storage import read_json
from ettin_core.foundation.strict_config import build

STAGES = ("held_out", "signatures", "tokens")
_TICK_SECONDS = 0.5


def do_part(plan: Plan, folder: Path, stage: str, number: int, tick: Tick) -> None:
    """One stage of one part: keys of what it holds out, signatures to find duplicates by, or tokens."""
    part = plan.parts[number]
    config = plan.source(part.source).config
    if stage == "signatures":
        held_out, train = (signatures_file(folder, part.name, split) for split in ("held_out", "train"))
        write_signatures(part, config, held_out, train, tick)
        return
    tokenizer = _tokenizer(*_version(folder / "tokenizer"))
    if stage == "held_out":
        write_held_out(part, config, tokenizer, held_out_file(folder, part.name), tick)
        return
    removed = duplicates_file(folder, part.name)
    duplicates = {int(key): value for key, value in read_json(removed).items()} if removed.exists() else None
    write_part(part, config, tokenizer, folder, tick, HeldOut(folder / "held_out"), duplicates)


def _version(folder: Path) -> tuple[Path, int]:
    return folder, (folder / "tokenizer.json").stat().st_mtime_ns


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, modified: int) -> Tokenizer:
    return Tokenizer(folder)


def held_out_file(folder: Path, part: str) -> Path:
    """The file of the keys of a part's held-out documents."""
    return folder / "held_out" / "parts" / f"{part}.npy"


def signatures_file(folder: Path, part: str, split: str) -> Path:
    """The file of the signatures of a part's training documents (`train`) or of the others (`held_out`)."""
    return folder / "duplicates" / f"{part}.{split}.npy"


def duplicates_file(folder: Path, part: str) -> Path:
    """The file of the numbers of a part's duplicates."""
    return folder / "duplicates" / f"{part}.json"


def main() -> None:
    """Serve until the input ends."""
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    folder = Path(sys.argv[1])
    plan = build(Plan, read_json(folder / "plan.json"))
    while True:
        stage, number = tasks.get().split()
        try:
            do_part(plan, folder, stage, int(number), _ticker())
            _send(done=int(number))
        except (UserError, DiskFullError) as error:
            _send(error=str(error), kind=type(error).__name__)
        except Exception:
            _send(error=traceback.format_exc(), kind="fault")


def _listen(tasks: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


def _ticker() -> Tick:
    """A tick that is sent at most twice a second."""
    held = [0, 0]
    sent = time.monotonic()

    def tick(documents: int, size: int) -> None:
        nonlocal sent
        held[0] += documents
        held[1] += size
        if time.monotonic() - sent > _TICK_SECONDS:
            _send(documents=held[0], bytes=held[1])
            held[:] = [0, 0]
            sent = time.monotonic()

    return tick


def _send(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
