"""The bar of a preparation."""

import re

import pytest

from ettin_core.data.preparation.progress_bar import PreparationBar


def test_each_stage_has_one_bar_with_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with PreparationBar() as bar:
        for stage in ("text", "tokens"):
            for done in (0, 250_000, 1_000_000):
                bar(stage, done, 1_000_000, done // 1000)
    first, second = capsys.readouterr().err.rstrip("\n").split("\n")
    for line, stage in ((first, "text"), (second, "tokens")):
        last = line.split("\r")[-1]
        size = r"1\.00M/1\.00M"
        assert re.search(rf"prepare {stage}: 100%.* {size} .*<00:00, .*\d[kMGT]?B/s, 1,000 documents", last), last
