"""The curves along training: every measured checkpoint, members apart; and the documented example of a figure."""

from pathlib import Path
from typing import Any

from analysis.checkpoint_figures import along_checkpoints
from analysis.load import load
from tests.integration.test_docs import example


def test_every_measured_checkpoint_is_a_point(synthetic: Any) -> None:
    bias, skill = ("winobias", "winobias", "gap"), ("agreement", "blimp", "accuracy")
    part = ("winobias", "winobias/type1", "gap")
    earlier = {"step50": {bias: 0.1, skill: 0.6, part: 0.2}, "step25": {bias: 0.0, skill: 0.5, part: 0.2}}
    synthetic.cell({"member": "encoder"}, {bias: 0.3, skill: 0.9, part: 0.2}, earlier=earlier)
    synthetic.cell({"member": "decoder"}, {bias: 0.2, skill: 0.8, part: 0.2}, "clm", earlier=earlier)
    recorded = load(synthetic.root, synthetic.study(kind="cells"))
    figure = along_checkpoints(recorded, recorded.blocks[0])
    assert figure is not None
    encoder = figure.data[(figure.data["member"] == "encoder") & (figure.data["metric"] == "gap")]
    assert encoder["value"].tolist() == [0.0, 0.1, 0.3]
    assert encoder["tokens"].is_monotonic_increasing and encoder["tokens"].nunique() == 3
    assert set(figure.data["task"]) == {"winobias", "blimp"}  # no parts of tasks
    visible = [panel for panel in figure.figure.axes if panel.get_visible()]
    assert len(visible) == 2 and all(len(panel.lines) == 2 for panel in visible)


def test_the_last_checkpoint_alone_is_no_curve(synthetic: Any) -> None:
    synthetic.cell({"member": "encoder"}, {("winobias", "winobias", "gap"): 0.3})
    recorded = load(synthetic.root, synthetic.study(kind="cells"))
    assert along_checkpoints(recorded, recorded.blocks[0]) is None


def test_the_documented_example_is_a_figure(synthetic: Any, tmp_path: Path) -> None:
    for seed in (1, 2):
        synthetic.cell({"member": "encoder", "seed": seed}, {("agreement", "blimp", "accuracy"): 0.9})
    module: dict[str, Any] = {"__name__": "example"}
    exec(example("extend/figure.md", "python"), module)
    figure = module["speed"](load(synthetic.root, synthetic.study(kind="cells")))
    figure.save(tmp_path)
    assert (tmp_path / "speed.png").stat().st_size > 1000
    assert len(figure.figure.axes[0].patches) == len(figure.data) == 2 and (figure.data["tokens_per_second"] > 0).all()
