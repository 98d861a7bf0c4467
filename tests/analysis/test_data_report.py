"""The data report from a record: every file, the numbers behind every figure, and what a reader must not miss."""

import hashlib
import json
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from analysis.data_report import figures
from analysis.data_report.record import load_record, passes, percent
from analysis.data_report.report import build
from ettin_core.foundation.folders import MARK

CURATION = {
    "rules": ["c4"],
    "language": None,
    "language_probability": 0.65,
    "exact_duplicates": True,
    "near_duplicates": None,
}
PHASES = (("pretrain", 128, "stream", 1.0), ("decay", 512, "off", 0.7))


def a_source(number: int, dirty: bool) -> dict[str, Any]:
    """A source of 100 training documents, half as long each as the one before."""
    tokens, size = 10**8 // 2**number, max(3, 16 - number)
    lengths = [0] * (size - 2) + [30, 70]
    train = {"documents": 100, "tokens": tokens, "bytes": 4 * tokens, "bytes_per_token": 4.0, "lengths": lengths}
    empty = {"documents": 0, "tokens": 0, "bytes": 0, "bytes_per_token": None, "lengths": []}
    return {
        "kind": "text",
        "identity": "0123456789abcdef" * 4,
        "licence": "CC_0 & more",
        "curation": CURATION,
        "skipped": {"c4.curly_bracket": 25, "exact_duplicate": 1} if dirty else {},
        "samples": {"c4.curly_bracket": [{"id": "a#1", "text": "<script>if (a) { b }</script>"}]} if dirty else {},
        "lines_removed": {"c4.javascript_line": 4_000} if dirty else {},
        "splits": {"test": empty, "train": train, "validation": {**train, "documents": 10}},
    }


def a_phase(name: str, context: int, packing: str, full: float, sources: list[str]) -> dict[str, Any]:
    """A phase that draws equally of every source."""
    share = 1 / len(sources)
    drawn = {
        source: {
            "share_asked": share,
            "share_drawn": share * 1.01,
            "rows": 100,
            "tokens": 12_800,
            "passes": 0.5 * 2**number,
            "utilisation": full,
            "documents_longer": 70,
            "pieces": 250,
        }
        for number, source in enumerate(sources)
    }
    places = 100 * len(sources) * context
    return {
        "name": name,
        "context": context,
        "packing": packing,
        "steps": 10,
        "batch_rows": 8,
        "rows": 80,
        "places": places,
        "mixture": None,
        "refused": None,
        "utilisation": full,
        "sources": drawn,
    }


def a_record(folder: Path, count: int = 2, dirty: bool = True, full: float | None = None, **changes: Any) -> Path:
    """A record of so many sources, written."""
    names = [f"source_{number}" for number in range(count)]
    corpus = {"name": "text-0123456789", "kind": "text", "fingerprint": "f" * 64, "tokenizer_hash": "a" * 64}
    content = {
        "kind": "data_report",
        "schema": 1,
        "run": None,
        "seed": 21,
        "max_epochs": 4.0,
        "corpus": corpus | {"vocab_size": 2048, "policy": "BOS document EOS", "policy_hash": "b" * 64},
        "sources": {name: a_source(number, dirty) for number, name in enumerate(names)},
        "phases": [
            a_phase(name, context, packing, full or utilisation, names)
            for name, context, packing, utilisation in PHASES
        ],
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "data_report.json"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two sources."""
    out = tmp_path_factory.mktemp("report")
    build(a_record(out), out)
    return out


def test_every_promised_file_is_there_and_in_the_manifest(report: Path) -> None:
    tables = {f"{name}.{kind}" for name in ("sources", "draws", "left_out") for kind in ("csv", "md", "tex")}
    figures = ("mixture", "lengths", "passes", "utilisation", "left_out")
    drawn = {f"{name}.{kind}" for name in figures for kind in ("pdf", "png", "data.csv")}
    present = {path.name for path in report.iterdir()}
    assert tables | drawn | {"phases.md", "phases.tex", "index.html"} == present - {
        MARK,
        "manifest.json",
        "data_report.json",
    }
    manifest = json.loads((report / "manifest.json").read_text())
    assert set(manifest) == present - {MARK, "manifest.json", "data_report.json"}
    for name, entry in manifest.items():
        assert entry["sha256"] == hashlib.sha256((report / name).read_bytes()).hexdigest()
        assert entry["inputs"] == hashlib.sha256((report / "data_report.json").read_bytes()).hexdigest()


def test_the_same_record_gives_the_same_bytes(report: Path, tmp_path: Path) -> None:
    build(report / "data_report.json", tmp_path)
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (report, tmp_path))
    del first["data_report.json"]
    assert first.keys() == second.keys() and [name for name in first if first[name] != second[name]] == []


def test_the_page_needs_no_other_file_and_shows_samples_as_text(report: Path) -> None:
    page = (report / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 5 and page.count("<script") == 1 and 'src="http' not in page
    assert "&lt;script&gt;if (a) { b }" in page and "CC_0 &amp; more" in page
    assert page.index("What each phase draws") < page.index("What the corpus holds") < page.index("Samples of what")


def test_the_numbers_of_the_figures_are_the_records(report: Path) -> None:
    mixture = pd.read_csv(report / "mixture.data.csv").set_index(["phase", "source"])
    assert mixture.loc[("decay", "source_1"), "share_asked"] == 0.5
    assert mixture.loc[("decay", "source_1"), "share_drawn"] == 0.505
    assert mixture.loc[("pretrain", "source_1"), "training_tokens"] == 5 * 10**7
    assert pd.read_csv(report / "passes.data.csv")["passes"].tolist() == [0.5, 1.0, 0.5, 1.0]
    lengths = pd.read_csv(report / "lengths.data.csv")
    first = lengths[lengths["source"] == "source_0"]
    assert first["at_most"].tolist() == [2**k - 1 for k in range(1, 17)]
    assert first["share"].tolist() == [0.0] * 14 + [0.3, 1.0]
    left_out = pd.read_csv(report / "left_out.data.csv").set_index("reason")
    assert left_out.loc["c4.curly_bracket", "number"] == 50 and left_out.loc["c4.javascript_line", "number"] == 8000


def test_tables_say_what_share_of_what_was_read_was_left_out(report: Path) -> None:
    table = (report / "left_out.md").read_text()
    assert f"| c4.curly_bracket | 25 | {25 / 136:.1%} | document |" in table
    assert "| c4.javascript_line | 4,000 |  | line of a kept document |" in table
    assert r"CC\_0 \& more" in (report / "sources.tex").read_text()
    assert "| all | 200 | 150,000,000 | 100% |" in (report / "sources.md").read_text()


def test_full_rows_and_nothing_left_out_need_no_figure(tmp_path: Path) -> None:
    build(a_record(tmp_path, dirty=False, full=0.9991), tmp_path)
    present = {path.name for path in tmp_path.iterdir()}
    assert not {"utilisation.png", "left_out.png"} & present and "passes.png" in present
    page = (tmp_path / "index.html").read_text()
    assert "Rows are full: 99.91% or more" in page and "Nothing was left out" in page and "Samples" not in page


def test_a_recipe_with_an_error_says_so_first(tmp_path: Path) -> None:
    file = a_record(tmp_path / "much", max_epochs=0.9)
    build(file, tmp_path / "much")
    page = (tmp_path / "much" / "index.html").read_text()
    problem = "the phases together pass 2 times over source_1; recipe.max_epochs is 0.9."
    assert 'class="verdict broken"' in page and page.index(problem) < page.index("<table>")
    assert "more than 0.9 passes" in (tmp_path / "much" / "draws.md").read_text()


def test_phases_that_cannot_be_drawn_leave_the_rest_of_the_report(tmp_path: Path, capsys: Any) -> None:
    content = json.loads(a_record(tmp_path).read_text())
    refused = {"refused": "context of phase x is too long.", "utilisation": None, "sources": {}}
    phases = [phase | refused for phase in content["phases"]]
    build(a_record(tmp_path / "none", phases=phases), tmp_path / "none")
    assert "problem: pretrain: context of phase x is too long." in capsys.readouterr().out
    assert not (tmp_path / "none" / "passes.png").exists() and (tmp_path / "none" / "lengths.png").exists()
    assert "too long" in (tmp_path / "none" / "phases.md").read_text()
    build(a_record(tmp_path / "one", phases=[content["phases"][0], phases[1]]), tmp_path / "one")
    assert (tmp_path / "one" / "passes.png").exists()


@pytest.mark.parametrize("count", [1, 2, 20])
def test_figures_keep_their_labels_apart(count: int, tmp_path: Path) -> None:
    record = load_record(a_record(tmp_path, count))
    for draw in (figures.mixture, figures.lengths, figures.passes, figures.utilisation):
        figure = draw(record)
        figure.encoded("png")
        for axis in filter(Axes.get_visible, figure.figure.axes):
            frame = axis.get_window_extent().padded(1)
            for ticks, along in ((axis.get_xticklabels(), "x0"), (axis.get_yticklabels(), "y0")):
                boxes = sorted((tick.get_window_extent() for tick in ticks if tick.get_text()), key=attrgetter(along))
                drawn = [box for box in boxes if fits(box, frame, along)]
                assert len(drawn) >= 2 or count == 1 or not drawn, figure.name
                assert not any(left.overlaps(right) for left, right in pairwise(drawn)), figure.name


def test_every_context_is_drawn_among_the_lengths(tmp_path: Path) -> None:
    figure = figures.lengths(load_record(a_record(tmp_path))).figure
    for axis in figure.axes:
        low, high = axis.get_xlim()
        places = [line.get_xdata()[0] for line in axis.lines if line.get_color() == figures.VERMILION]
        assert places == [128, 512] and low < 128 and high > 2**16


def fits(box: Bbox, frame: Bbox, along: str) -> bool:
    """Whether a tick's middle lies within its axis, else it is not drawn."""
    low, high = (frame.x0, frame.x1) if along == "x0" else (frame.y0, frame.y1)
    middle = (box.x0 + box.x1) / 2 if along == "x0" else (box.y0 + box.y1) / 2
    return low <= middle <= high


@pytest.mark.parametrize("changes", [{"kind": "something"}, {"schema": 2}])
def test_another_record_is_an_error(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a data report of schema 1"):
        load_record(a_record(tmp_path, **changes))
    with pytest.raises(ValueError, match="is not there"):
        load_record(tmp_path / "nowhere.json")


def test_shares_and_passes_are_spelled_without_false_zeros() -> None:
    assert [percent(share) for share in (0, 0.00001, 0.004, 0.25, 0.996, 0.99999, 1)] == [
        "0%",
        "<0.01%",
        "0.40%",
        "25.0%",
        "99.60%",
        ">99.99%",
        "100%",
    ]
    assert [passes(value) for value in (0.00123, 0.5, 17.92, 1234.5)] == ["0.00123", "0.5", "17.9", "1,234"]
