"""Names of others in figures: formulas, long names and letters without a glyph stay apart and within the figure."""

import json
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import figures, kinds, labels, search_figure
from analysis.data_report import report as data_report
from analysis.data_report.record import load_record
from analysis.figure_style import look
from analysis.figures import ReportFigure
from analysis.labels import label, name_columns, width
from analysis.load import load
from tests.analysis.test_data_report import a_record

NAMES = {
    "long": "a_name_of_forty_six_letters_that_differs_at_",
    "dollar": "$x_1 & 50% {\\frac ",
    "chinese": "中文语料库_百科全书_",
    "hidden": "a\x1b[31m\u202eb\n",
}


def problems(figure: ReportFigure, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of a figure that lie over each other or outside of it, and what matplotlib warns of."""
    boxes: dict[Text, Any] = {}
    draw = Text.draw

    def recorded(self: Text, renderer: Any, *arguments: Any, **named: Any) -> None:
        if self.get_text().strip() and self.get_rotation() in (0, 90):
            boxes[self] = self.get_window_extent(renderer).frozen()
        draw(self, renderer, *arguments, **named)

    with warnings.catch_warnings(record=True) as warned, monkeypatch.context() as patch:
        warnings.simplefilter("always")
        patch.setattr(Text, "draw", recorded)
        figure.encoded("png")
    messages = [str(item.message) for item in warned]
    wide, high = (inches * 160 for inches in figure.figure.get_size_inches())
    messages += [
        name.get_text() for name, box in boxes.items() if box.x0 < -2 or box.x1 > wide + 2 or box.y1 > high + 2
    ]
    for (first, left), (second, right) in combinations(boxes.items(), 2):
        beside = min(left.x1, right.x1) - max(left.x0, right.x0)
        if beside > 1 and min(left.y1, right.y1) - max(left.y0, right.y0) > 2:
            messages.append(f"{first.get_text()!r} over {second.get_text()!r}")
    return messages


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_data_figures_with_names_of_others(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = a_record(tmp_path, 5).read_text()
    content = json.loads(text.replace('"source_', f'"{json.dumps(name)[1:-1]}').replace('"decay"', json.dumps(name)))
    (tmp_path / "data_report.json").write_text(json.dumps(content))
    record = load_record(tmp_path / "data_report.json")
    for figure in data_report._figures(record):
        assert problems(figure, monkeypatch) == [], figure.name
        if "source" in figure.data:
            assert f"{name}4" in set(figure.data["source"])  # in full
            assert bool(figure.note) == ("中" in name and "中" not in labels._has_glyph())


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_figures_of_a_study_with_names_of_others(
    name: str, synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        for level in ("1", "2", "3"):
            for level_of_second in ("a", "b"):
                scores = {(f"finetune.{name}", f"{name}{task}", "accuracy"): 0.6 + 0.1 * seed for task in range(3)}
                synthetic.cell({"first": name + level, "second": name + level_of_second, "seed": seed}, scores)
    recorded = load(synthetic.root, synthetic.study(kind="effects", factors=["first", "second"]))
    findings = kinds.analyse(recorded)
    for figure in (figures.loss(recorded, findings.cells, recorded.blocks[0]), *findings.figures):
        assert problems(figure, monkeypatch) == [], figure.name
    row = {"protocol": name, "log": False, "standard_error": 0.01, "run": "r", "key": name}
    trials = [{**row, "member": name, "trial": n, "value": f"{name}{n}", "loss": 3.0 - n} for n in range(3)]
    pd.DataFrame(trials)[list(search_figure.COLUMNS)].to_csv(tmp_path / "trials.csv", index=False)
    assert problems(search_figure.losses(tmp_path / "trials.csv"), monkeypatch) == []


def test_different_names_keep_different_labels_of_bounded_width() -> None:
    names = ["a" * 30 + middle + "b" * 30 for middle in "123123"]
    shown = labels.labels(names, 20)
    assert len(set(shown)) == 3 and shown[:3] == shown[3:] and all(width(text) <= 20 for text in shown)
    assert label("a$b") == r"a\$b" and label("x" * 26) == "x" * 26 and label("日" * 40).count("日") <= 13


def test_blocks_whose_names_have_no_letters_in_common_with_a_file_name_have_files_of_their_own() -> None:
    figure = ReportFigure(name_columns, "loss", "Loss", "", figures.new_figure(1, 1), pd.DataFrame())
    named = {figure.of_block(f" (nano on {corpus})").name for corpus in ("中文", "日本", "a$b", "a&b", "A", "a")}
    assert len(named) == 6 and figure.of_block(" (nano on world)").name == "loss-nano-on-world"


def test_curves_and_points_of_twelve_members_look_unlike() -> None:
    members = ["encoder", "decoder", "enc-from-dec", "dec-from-enc", *(f"enc-from-dec, budget {n}" for n in range(8))]
    looks = [look(member, members) for member in members]
    assert len({(each.colour, each.line) for each in looks}) == 12
    assert len({(each.colour, each.marker, each.filled) for each in looks}) == 12
