"""Predictions: stated in a study's file before training, judged by what was measured."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from scipy import stats

from analysis.load import load
from analysis.predictions import judge
from analysis.records_archive import ARCHIVE, unpacked
from analysis.report import build
from analysis.uncertainty import could_see
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.storage import read_json
from ettin_core.foundation.strict_config import build as structured
from ettin_core.records.predictions import Prediction, check_apart, stated
from ettin_core.requests.compose import composer, to_plain
from ettin_core.studies.grid import StudyRequest
from ettin_core.studies.study import Study

FACTORIAL = Path(__file__).parents[2] / "paper" / "results" / "factorial" / ARCHIVE
LEFT_TO_RIGHT = "minimal_pairs.left_to_right:syntax:accuracy"


def predicted(
    measure: str, sign: str | None = None, size: tuple[float, float] | None = None, **named: Any
) -> Prediction:
    """A prediction of the decoder less the encoder."""
    sides = {"left": "decoder", "right": "encoder"} | named
    return Prediction(f"{measure} {sign or size}", measure, reason="why", sign=sign, size=size, **sides)


def with_predictions(study: Any, *predictions: Prediction, before: tuple[str, ...] = ()) -> Path:
    """The study.json with predictions."""
    path = study.study()
    plan = json.loads(path.read_text()) | {"predictions": stated(predictions, list(before))}
    path.write_text(json.dumps(plan))
    return path


def test_signs_and_sizes_are_judged(four_kinds: Any, tmp_path: Path) -> None:
    sizes = [(-1.0, 1.0), (0.9, 1.0), (0.0, 0.02)]
    predictions = [
        *(predicted(LEFT_TO_RIGHT, sign) for sign in ("better", "higher", "worse", "lower")),
        *(predicted(LEFT_TO_RIGHT, size=size) for size in sizes),
        predicted("heldout_clm", "better", right="dec-from-enc"),
        predicted("facts.left_to_right:nowhere", "better"),
    ]
    path = with_predictions(four_kinds, *predictions)
    judged = judge(load(four_kinds.root, path))
    verdicts = judged.drop_duplicates("statement")["verdict"].tolist()
    assert verdicts[:6] == ["confirmed", "confirmed", "contradicted", "contradicted", "confirmed", "contradicted"]
    assert verdicts[7:] == ["confirmed", "not measured"]  # a lower loss is better
    tested = judged[judged["p"].notna()]
    assert (tested["p_corrected"] > tested["p"]).any()
    out = tmp_path / "out"
    build(four_kinds.root, out, path)
    shown = (out / "predictions.md").read_text()
    assert "Stated before any cell had begun; hash" in shown and "contradicted" in shown and "why" in shown
    assert "not distinguishable (could see" in shown or verdicts[6] != "not distinguishable"


def test_own_scoring_of_two_members_of_one_kind(four_kinds: Any) -> None:
    own, alike = "minimal_pairs.own_scoring:syntax:accuracy", "minimal_pairs.pseudo_likelihood:syntax:accuracy"
    sides: dict[str, Any] = {"left": "enc-from-dec", "right": "encoder"}
    predictions = [predicted(measure, "better", **sides) for measure in (own, alike)]
    judged = judge(load(four_kinds.root, with_predictions(four_kinds, *predictions)))
    assert judged["value"].nunique() == 1 and judged["value"].notna().all() and len(judged) == 2


def test_sizes_share_the_correction_and_undecided_ones_the_level(four_kinds: Any) -> None:
    """A size may be judged wrong as a sign may, so its p is in the family; at its end nothing is decided."""
    first = judge(load(four_kinds.root, with_predictions(four_kinds, predicted(LEFT_TO_RIGHT, "better")))).iloc[0]
    sizes = [(first["value"], 2.0), (first["value"] - 1e-6, 2.0), (-1.0, 2.0)]
    path = with_predictions(four_kinds, *(predicted(LEFT_TO_RIGHT, size=size) for size in sizes))
    judged = judge(load(four_kinds.root, path))
    assert judged["verdict"].tolist() == ["not distinguishable", "not distinguishable", "confirmed"]
    assert judged["p"].iloc[0] > 0.99 and judged["p"].iloc[2] < first["p"] < 0.05
    assert judged["p_corrected"].iloc[2] == pytest.approx(3 * judged["p"].iloc[2])
    alone = could_see(first["high"] - first["value"])
    corrected = alone * could_see(1, 0.975) / could_see(1) * stats.norm.ppf(0.9875) / stats.norm.ppf(0.975)
    assert judged["could_see"].iloc[0] > alone and judged["could_see"].iloc[0] == pytest.approx(corrected, rel=0.02)


def test_cells_are_picked_by_levels() -> None:
    """On the committed records of a grid: the difference of two cells is that of their runs, by seed."""
    masked, next_token = {"direction": "causal", "objective": "mlm"}, {"direction": "causal", "objective": "clm"}
    sides: dict[str, Any] = {"left": next_token, "right": masked}
    measure = "facts.left_to_right:repeated:accuracy"
    with unpacked(FACTORIAL) as folder:
        study = load(folder / "runs", folder / "study.json")

    def judged_row(prediction: Prediction) -> Any:
        judged = judge(replace(study, predictions=stated((prediction,), [])))
        assert len(judged) == 1
        return judged.iloc[0]

    row = judged_row(predicted(measure, "better", **sides))
    records = study.measurements[(study.measurements[["protocol", "task", "metric"]] == measure.split(":")).all(axis=1)]
    means = records.groupby("member")["value"].mean()
    assert row["verdict"] == "confirmed" and row["repetitions"] == 3
    assert row["value"] == pytest.approx(means["causal, clm"] - means["causal, mlm"])
    assert (row["left"], row["right"]) == ("causal, clm", "causal, mlm")
    assert judged_row(predicted(measure, "better", left=next_token, right={"direction": "sideways"}))["verdict"] == (
        "not measured"
    )
    with pytest.raises(ValueError, match="picks several cells of one seed; name a level of objective too"):
        judged_row(predicted(measure, "better", left=next_token, right={"direction": "bidirectional"}))


def test_what_was_edited_afterwards_is_an_error(four_kinds: Any) -> None:
    path = with_predictions(four_kinds, predicted(LEFT_TO_RIGHT, "worse"), before=("encoder",))
    text = path.read_text()
    assert text.count('"worse"') == 1
    path.write_text(text.replace('"worse"', '"better"'))
    with pytest.raises(ValueError, match=r"study.json.*changed after they were stated; restore the file"):
        load(four_kinds.root, path)


def test_without_predictions_there_is_no_table(four_kinds: Any, tmp_path: Path) -> None:
    assert not any("prediction" in file.name for file in build(four_kinds.root, tmp_path / "out", four_kinds.study()))


BAD = {
    "no sign and no size": ({}, "and size are both given or both missing"),
    "both": ({"sign": "better", "size": (0.0, 1.0)}, "both given"),
    "an unknown sign": ({"sign": "more"}, "is not a sign; did you mean 'worse'"),
    "an empty size": ({"size": (1.0, 1.0)}, "holds no value"),
    "one member": ({"sign": "better", "left": "encoder"}, "is right as well"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_predictions_are_errors(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        predicted("facts", **changes)  # type: ignore[arg-type]
    twice = (predicted("facts", "better"), predicted("facts", "better"))
    with pytest.raises(ValueError, match=r"predictions.1.statement='facts better' is that of predictions.0 too"):
        check_apart(twice)
    with pytest.raises(ValueError, match=r"predictions.reason='' is empty"):
        Prediction("s", "facts", "a", "b", " ", sign="better")


def test_they_are_stated_before_the_first_cell_is_trained(corpora_dir: Path, tmp_path: Path) -> None:
    """In study.json, with the cells that had begun by then; the first statement stays, another one is another study."""

    def of(*more: str) -> Study:
        overrides = [
            *("study=smoke", "jobs=1", "export=false", "recipe.tokens=4e3", f"runs_dir={tmp_path}/runs"),
            *(f"corpora_dir={corpora_dir}", f"studies_dir={tmp_path}/studies", *more),
        ]
        return Study(
            structured(StudyRequest, to_plain(compose("study", overrides))), overrides, composer("study", StudyRequest)
        )

    with initialize_config_dir(str(CONFIGURATIONS), version_base="1.3"):
        study = of()
        study.state()
        file = study.path / "study.json"
        first = read_json(file)["predictions"]
        assert first["trained_before"] == [] and len(first["stated"]) == 5
        assert first["stated"][0] == json.loads(json.dumps(asdict(study.request.predictions[0])))
        folder = study.folder("member=decoder" if "member=decoder" in study.cells else "decoder")
        folder.metrics_file.parent.mkdir(parents=True)
        folder.metrics_file.write_text("{}")
        again = of()
        again.state()
        assert again.path == study.path and again.record([])["predictions"] == first
        later = of("predictions=[{statement: s, measure: m, left: encoder, right: decoder, sign: better, reason: r}]")
        later.state()
        assert later.path != study.path
        assert len(read_json(later.path / "study.json")["predictions"]["trained_before"]) == 1
        few = of("~conversions", "+conversions={}", "axes={member:[encoder]}")
        assert (
            len(few.request.unanswerable()) == 6
            and "'decoder', which is not a member of this study" in few.request.unanswerable()[0]
        )
        levels = "left: {member: encoder, seed: 21}, right: {member: encoder, budget: 0.3}, sign: better, reason: r"
        line = "predictions.0 is about 0.3, which is not a budget of this study"
        assert any(
            item.startswith(line)
            for item in of(f"predictions=[{{statement: s, measure: m, {levels}}}]").request.unanswerable()
        )
