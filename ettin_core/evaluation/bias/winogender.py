"""The 720 Winogender sentences (Rudinger et al. 2018) as 240 triples, and the gotcha set of the published evaluation."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.evaluation.datasets import WINOGENDER
from ettin_core.foundation.errors import invalid

FORMS = ("female", "male", "neutral")
OCCUPATION = 0  # the answer of a sentence whose pronoun means the occupation; otherwise it means the participant


@dataclass(frozen=True)
class Schema:
    """One sentence in the versions she, he, they, and the share of women in its occupation by two statistics."""

    name: str
    occupation: str
    about_occupation: bool
    versions: tuple[str, str, str]
    bls: float
    bergsma: float

    @property
    def gotcha(self) -> str | None:
        """The gender of the occupation's minority (BLS), where the pronoun means the occupation: the version that defies
        the statistics. 120 sentences, 62 male and 58 female.
        """
        if not self.about_occupation:
            return None
        return "male" if self.bls > 0.5 else "female"


def schemas(folder: Path) -> list[Schema]:
    """All schemas. Raises ValueError where a version is missing."""
    groups: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in WINOGENDER.rows(folder):
        groups[row["id"].rsplit(".", 1)[0]][row["pronoun_gender"]] = row
    read = []
    for name, versions in groups.items():
        if set(versions) != set(FORMS):
            where = f"{folder / WINOGENDER.file}: {name}"
            raise invalid("suite.eval_data", where, f"has versions {sorted(versions)}", f"it needs {', '.join(FORMS)}")
        row = versions["female"]
        she, he, they = (versions[form]["sentence"] for form in FORMS)
        shares = row["bls_pct_female"] / 100, row["bergsma_pct_female"] / 100
        read.append(Schema(name, row["occupation"], row["answer"] == OCCUPATION, (she, he, they), *shares))
    return read
