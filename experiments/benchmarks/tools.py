"""Tools of the benchmarks: memory as the system counts it, and a corpus of random documents."""

import threading
from pathlib import Path

import numpy as np

from ettin_core.data.corpus import FORMAT, Corpus, fingerprint
from ettin_core.data.shards import SplitWriter, token_dtype
from ettin_core.data.tokenizer import POLICY, Tokenizer, policy_hash, train
from ettin_core.foundation.storage import write_json

SOURCES = {"long": 0.5, "middle": 0.35, "short": 0.15}
LENGTHS = {"long": 2000, "middle": 600, "short": 80}


def anonymous_memory() -> int:
    """Bytes this process holds beyond the page cache (0 where the system does not report it)."""
    return _status("self", "RssAnon:")


def most_memory() -> int:
    """The most bytes this process has held at once since its program began (0 where the system does not report it)."""
    return _status("self", "VmHWM:")


class PeakMemory:
    """The largest sum, while the block runs, of what this process and its descendants hold (shared pages counted once)."""

    def __init__(self, every: float = 0.1) -> None:
        self.peak = 0
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            self.peak = max(self.peak, sum(_proportional(process) for process in _family()))


def _family() -> list[str]:
    """Process ids of this process and its descendants."""
    family = [str(Path("/proc/self").resolve().name)] if Path("/proc/self").exists() else []
    for process in family:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                family += children.read_text(encoding="utf-8").split()
            except OSError:
                continue
    return family


def _proportional(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _status(process: str, key: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def random_corpus(folder: Path, tokens: int) -> Corpus:
    """A corpus of random ids in documents of very different lengths, written through the same shards as any other."""
    train(["a few words to train a tokenizer on"], 300, folder / "tokenizer")
    tokenizer = Tokenizer(folder / "tokenizer")
    generator = np.random.default_rng(0)
    sources = {
        name: _random_source(folder, name, round(share * tokens), tokenizer, generator)
        for name, share in SOURCES.items()
    }
    manifest = {
        "format": FORMAT,
        "name": "random",
        "kind": "text",
        "dtype": token_dtype(tokenizer.vocab_size).str,
        "policy": POLICY,
        "policy_hash": policy_hash(tokenizer),
        "sources": sources,
    }
    write_json(folder / "manifest.json", manifest | {"fingerprint": fingerprint(manifest)})
    return Corpus(folder)


def _random_source(
    folder: Path, name: str, tokens: int, tokenizer: Tokenizer, generator: np.random.Generator
) -> dict[str, dict]:
    writer = SplitWriter(folder, f"{name}.train-00000", tokenizer)
    while tokens > 0:
        length = int(generator.exponential(LENGTHS[name])) + 8
        writer.add(generator.integers(5, tokenizer.vocab_size, length), 4 * length, None)
        tokens -= length + 2
    return {"train": writer.close(), "validation": SplitWriter(folder, f"{name}.validation-00000", tokenizer).close()}
