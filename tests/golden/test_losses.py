"""Committed loss curves: a change of numerics must be said, by running `python -m tests.golden.test_losses`."""

import json
from pathlib import Path

import pytest

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.preparation.prepare import prepare
from tests.runs import MEMBERS, tiny_run, train_tiny

FILE = Path(__file__).with_name("losses.json")
WORLD = DataConfig(kind="world", name="world", documents=1500, vocab_size=1024)


def losses(member: str, corpus: Corpus, root: Path) -> list[float]:
    """The logged losses of the tiny run."""
    return [round(row.loss, 6) for row in train_tiny(tiny_run(corpus, member), root, corpus).training()]


@pytest.mark.parametrize("member", MEMBERS)
def test_losses_are_the_committed_ones(member: str, corpus: Corpus, tmp_path: Path) -> None:
    golden = json.loads(FILE.read_text())
    # 1e-4 leaves room for another processor's summation order and for nothing else
    assert losses(member, corpus, tmp_path) == pytest.approx(golden[member], abs=1e-4)


def test_the_corpus_is_the_committed_one(corpus: Corpus) -> None:
    assert corpus.fingerprint == json.loads(FILE.read_text())["fingerprint"]


if __name__ == "__main__":
    import tempfile

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = prepare(WORLD, Path(folder))
        curves: dict[str, object] = {name: losses(name, made, Path(folder) / "runs") for name in MEMBERS}
        FILE.write_text(json.dumps({"fingerprint": made.fingerprint} | curves, indent=1) + "\n")
