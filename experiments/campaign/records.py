"""Records and study files: every field of each kind of row with invalid values, read by the report."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.campaign.cases import Case, Input
from experiments.campaign.damages import FILES, Damage
from experiments.campaign.place import Place

REPORT = ("runs=runs", "out=report", "record=study.json")

READ_BY = {  # by other commands than the report of a study, which has other certificates
    "certificate.json": ("analysis.report", REPORT[:2]),
    "config.yaml": ("experiments.export", ("run=latest", "out=hf")),
}


def cases(place: Place) -> list[Case]:
    """A case for each file and damage."""
    result = []
    for name, damages in FILES.items():
        file = name if name == "study.json" else f"runs/{place.run.path.name}/{name}"
        for title, damage in damages.items():
            prepare = partial(damaged, place.copy("corpora", "runs", "study.json"), damage, file)
            command, arguments = READ_BY.get(name, ("analysis.report", REPORT))
            result.append(Case(f"{name}: {title}", Input(command, arguments, (Path(file).name,), prepare=prepare)))
    return result


def damaged(copy: Callable[[Path], None], damage: Damage, file: str, folder: Path) -> None:
    """Copy what is whole, and damage a file of it."""
    copy(folder)
    damage(folder / file)
