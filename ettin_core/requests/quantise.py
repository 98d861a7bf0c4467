"""A quantised copy as it is asked for, and what it changed."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ettin_core.evaluation.exports import own_export
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.storage import write_json
from ettin_core.interop.quantisation import check_method, check_out, quantise
from ettin_core.interop.quantisation_effect import Effect, effect
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.records.folders import find_run_or_none

RECORD = "quantisation.json"


@dataclass(frozen=True)
class QuantiseRequest:
    """conf/quantise.yaml."""

    model: str
    method: str
    out: str
    group: int
    rounds: int
    threads: int
    overwrite: bool
    corpora_dir: str

    def __post_init__(self) -> None:
        check_threads("threads", self.threads)
        if self.rounds < 1:
            raise invalid("rounds", self.rounds, "times nothing", "use 1 or more")

    def source(self) -> Path:
        """The plain transformers folder: the model itself, or the last checkpoint of a run, exported."""
        if find_run_or_none(self.model) is None:
            return Path(self.model).resolve()
        folder, run = open_run(self.model)
        return own_export(run, folder, open_corpus(run, Path(self.corpora_dir)))


def quantised(request: QuantiseRequest) -> tuple[Path, Effect]:
    """Write the quantised folder and measure it beside the plain one."""
    torch.set_num_threads(request.threads)
    check_method(request.method)
    check_out(Path(request.out), request.overwrite)
    source = request.source()
    changes: list[Effect] = []

    def measure(folder: Path) -> None:
        changes.append(effect(source, folder, request.rounds))
        write_json(folder / RECORD, {"method": request.method, **asdict(changes[0])})

    out = quantise(source, Path(request.out), request.method, request.group, request.overwrite, measure)
    return out, changes[0]
