"""What a study's author expects, stated in its file before anything is trained, so that the report can judge it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.storage import canonical_json, check_shape, hash_text

REMEDY = "restore the file of the study"
SIGNS = ("better", "worse", "higher", "lower")
Side = str | dict[str, Any]  # a member, or the levels of some axes: {member: decoder, budget: 0.5}


@dataclass(frozen=True)
class Prediction:
    """One expected difference of two members, or of two cells of a grid.

    `measure` is a protocol, and behind colons its task and metric ("facts.own_scoring:once:accuracy"); without them it is every
    whole task and its main metric, and an empty task is every whole task ("heldout_clm::loss"). `left` and `right` are members
    as a report names them, or the levels that pick one cell of each seed. Either `sign` says what left is (better, worse, higher,
    lower), or `size` the range that left less right is in. `reason` says why, `source` who said so.
    """

    statement: str
    measure: str
    left: Side
    right: Side
    reason: str
    sign: str | None = None
    size: tuple[float, float] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if (self.sign is None) == (self.size is None):
            raise invalid("predictions.sign", self.sign, "and size are both given or both missing", "state one of them")
        if self.sign is not None and self.sign not in SIGNS:
            raise unknown("predictions.sign", self.sign, "is not a sign", SIGNS)
        if self.size is not None and not self.size[0] < self.size[1]:
            raise invalid("predictions.size", list(self.size), "holds no value", "give the smaller end first")
        if self.left == self.right:
            raise invalid("predictions.left", self.left, "is right as well", "name two members")
        for name in ("statement", "measure", "reason"):
            if not getattr(self, name).strip():
                raise invalid(
                    f"predictions.{name}", "", "is empty", "state it: a prediction without it cannot be judged"
                )

    def asks(self, protocol: str, task: str, metric: str) -> bool:
        """Whether the prediction is about a measurement (of the main metrics, where it names none)."""
        wanted = self.measure.split(":")
        main = len(wanted) > 2 or metric in ("accuracy", "loss")
        return main and all(asked in ("", name) for asked, name in zip(wanted, (protocol, task, metric), strict=False))


def check_apart(predictions: tuple[Prediction, ...]) -> None:
    """Raises ValueError for two predictions of one statement: a reader could not tell their verdicts apart."""
    seen: dict[str, int] = {}
    for number, prediction in enumerate(predictions):
        first = seen.setdefault(prediction.statement, number)
        if first != number:
            problem = f"is that of predictions.{first} too"
            raise invalid(f"predictions.{number}.statement", prediction.statement, problem, "say what each is about")


def hash_of(predictions: tuple[Prediction, ...]) -> str:
    """The hash that a study carries of what was stated."""
    return hash_text(canonical_json([asdict(item) for item in predictions]))


def stated(predictions: tuple[Prediction, ...], trained_before: list[str]) -> dict[str, Any]:
    """What study.json says of predictions: their hash, and the cells that had begun to train by then."""
    return {
        "hash": hash_of(predictions),
        "trained_before": trained_before,
        "stated": [asdict(item) for item in predictions],
    }


def restored(record: dict[str, Any]) -> tuple[Prediction, ...]:
    """The predictions that a study's record has; none of an empty one."""
    return tuple(
        Prediction(**item | {"size": None if item["size"] is None else tuple(item["size"])})
        for item in record.get("stated", [])
    )


def check_stated(path: Path, record: dict[str, Any]) -> None:
    """Raises ValueError naming the file if its predictions are not those that were stated."""
    check_shape(path, record, REMEDY, True, "predictions", hash=str, trained_before=list, stated=list)
    try:
        same = hash_of(restored(record)) == record["hash"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise invalid("file", str(path), f"holds predictions that cannot be read ({error})", REMEDY) from error
    if not same:
        raise invalid("file", str(path), "holds predictions that were changed after they were stated", REMEDY)
