"""precision.json of a folder of runs: which precision `auto` means there, by size and device, and why.

A choice is made once. What is trained later in the same folder keeps it, so that members of a pair are computed alike and a
run that continues has the name it began with.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from ettin_core.foundation.storage import read_mapping, write_json
from ettin_core.foundation.strict_config import build

FILE = "precision.json"


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision, why it was chosen, and what was measured.

    Seconds are those of a small optimiser step, FLOP/s those of matrix products; by precision.
    """

    precision: str
    reason: str
    device: str
    step_seconds: dict[str, float]
    flops: dict[str, float]


def find_choice(runs_dir: Path, size: str, device: str) -> PrecisionChoice | None:
    """The choice for a size on a `placement.device`; None where none was made. Raises ValueError for a damaged file."""
    file = runs_dir / FILE
    values = read_mapping(file).get(_key(size, device)) if file.exists() else None
    return None if values is None else build(PrecisionChoice, values)


def keep_choice(runs_dir: Path, size: str, device: str, choice: PrecisionChoice) -> None:
    """Add a choice to the file; the caller holds the folder's lock."""
    file = runs_dir / FILE
    choices = read_mapping(file) if file.exists() else {}
    write_json(file, choices | {_key(size, device): asdict(choice)})


def _key(size: str, device: str) -> str:
    return f"{size} on {device}"
