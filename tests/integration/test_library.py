"""The library as a script uses it: the surface of `import ettin_core`, and the examples of docs/examples as printed."""

import contextlib
import io
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

import ettin_core as ettin
from ettin_core.foundation.errors import UserError
from ettin_core.objectives.kinds import OBJECTIVES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
ORDER = ("one_step", "new_objective", "compare_two_models", "read_a_run")  # the last reads what the one before trained
SHORT = ("recipe.tokens=12000", "data.documents=1500", "data.vocab_size=1024")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples run."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def printed(folder: Path) -> Iterator[dict[str, str]]:
    """What each example prints, all in one folder."""
    texts = {}
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        for name in ORDER:
            patch.setattr(sys, "argv", [f"{name}.py"])
            with contextlib.redirect_stdout(io.StringIO()) as text:
                runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
            texts[name] = text.getvalue()
    yield texts
    OBJECTIVES.pop("skip")


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ORDER)


def test_one_step_scores_what_each_objective_predicts(printed: dict[str, str]) -> None:
    losses = re.findall(r"(mlm|clm|mntp): \d+ tokens scored, loss (\d\.\d+)", printed["one_step"])
    assert [name for name, _ in losses] == ["mlm", "clm", "mntp"] and all(6.8 < float(loss) < 7.1 for _, loss in losses)


def test_a_new_objective_learns(printed: dict[str, str]) -> None:
    first, last = re.findall(r"(\d+\.\d+)(?: nats)? after", printed["new_objective"])
    assert float(last) < float(first) - 0.5


def test_a_trained_model_is_better_than_an_untrained_one(printed: dict[str, str]) -> None:
    number = r"([+-][\d.]+)"
    found = re.findall(rf"world loss: {number} \[{number}, {number}\], left better", printed["compare_two_models"])
    value, low, high = map(float, found[0])
    assert low < value < high < 0


def test_the_last_run_is_read(printed: dict[str, str], folder: Path) -> None:
    run = ettin.load_run(folder / "runs" / "nano-encoder", folder / "corpora")
    assert run.name in printed["read_a_run"] and f"step {run.history[-1].step}: loss" in printed["read_a_run"]
    assert (
        "heldout_mlm: world accuracy" in printed["read_a_run"] and "log p( sat | The cat) = -" in printed["read_a_run"]
    )


def test_runs_pairs_and_conversions_are_objects(printed: dict[str, str], folder: Path) -> None:
    with contextlib.chdir(folder):
        encoder = ettin.load_run("nano-encoder")
        again = ettin.train(*SHORT, size="nano", member="encoder", data="world", recipe="smoke")
        assert (again.name, repr(again)) == (encoder.name, f"Run('runs/{encoder.name}')")  # complete: it is opened
        child = ettin.convert(encoder, member="dec-from-enc", budget=0, recipe="smoke_conversion")
        assert child.path.parent == encoder.path.parent and child.config.direction == "causal"
        pair = ettin.load_pair(encoder, child, "conversion")
        assert pair.certificate.violations == [] and pair.left is encoder
        assert ettin.load_pair(encoder, child).certificate.verdict == "not matched"
        assert {run.name for run in ettin.load_runs()} >= {encoder.name, child.name}
        assert not encoder.model.training and encoder.tokenizer.vocab_size == 1024
        rows = ettin.evaluate(encoder, "suite.protocols=[heldout_mlm]", suite="smoke").measurements
        assert rows == encoder.measurements and encoder.items("heldout_mlm")


def test_the_example_of_an_evaluation_set_is_measured(
    printed: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "extend" / "dataset.md").read_text()
    rows, task, script = re.findall(r"```(?:json|yaml|python)\n(.*?)```", page, re.S)
    for name, text in (("mc/weather.jsonl", rows), ("tasks/weather.yaml", task)):
        (folder / "my_sets" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "my_sets" / name).write_text(text)
    with contextlib.chdir(folder):
        exec(script.replace("latest", "nano-encoder"), {})
    assert re.search(r"weather.*: accuracy \d\.\d\d ± \d\.\d\d \(n = 3\)", capsys.readouterr().out)


def test_mistakes_are_named_as_in_the_commands() -> None:
    with pytest.raises(UserError, match="did you mean 'size'"):
        ettin.train(sise="nano")
    with pytest.raises(UserError, match="dry_run=True only prints a plan"):
        ettin.train(dry_run=True)
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        ettin.tarin  # type: ignore[attr-defined]  # noqa: B018
    assert set(ettin.__all__) <= set(dir(ettin)) and all(getattr(ettin, name).__doc__ for name in ettin.__all__)


def test_importing_the_library_takes_no_torch() -> None:
    code = "import sys, ettin_core; ettin_core.__all__; assert not {'torch', 'hydra', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_tour_is_made_of_the_examples() -> None:
    tour = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    scripts = [path.read_text() for path in EXAMPLES.glob("*.py")]
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert all(any(cell.source in script for script in scripts) and cell.outputs == [] for cell in cells)
    assert len((EXAMPLES / "tour.ipynb").read_text()) < 10_000
