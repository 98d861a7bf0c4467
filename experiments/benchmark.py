"""python -m experiments.benchmark size=nano: speed and memory of whole training steps, against transformers in the same run.

For every shape, member and number of threads all sides (benchmarks/steps.py) take turns, so that they meet the same machine:
ours and each peer, in every precision. A ratio is that of two sides in one turn; the median of the turns counts. The share
of the matrix rate is the arithmetic of our step over its time, against the machine's own rate of matrix products in that turn.
"""

import itertools
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.fields import check_threads
from ettin_core.foundation.storage import append_json_lines
from ettin_core.model.config import BACKENDS
from ettin_core.planning.sizes import SizeConfig
from ettin_core.training.config import PRECISIONS
from ettin_core.training.numerics import numerics, vector_instructions
from experiments.benchmarks.steps import COMPONENTS, OURS, PEERS, Case, Side, peak_memory
from experiments.benchmarks.turns import in_turns
from experiments.cli.entry import entry

HEADER = (
    f"{'precision':<11}{'peer':<15}{'ours tok/s':>11}{'peer tok/s':>11}{'ratio':>7}{'10% to 90%':>14}"
    f"{'matrix rate':>13}{'peak':>7}{'peer MiB':>10}"
)


@dataclass(frozen=True)
class BenchmarkRequest:
    """conf/benchmark.yaml."""

    size: SizeConfig
    members: tuple[str, ...]
    contexts: tuple[int, ...]
    documents: tuple[int | None, ...]
    tokens: int
    vocab_size: int
    mask_rate: float
    precisions: tuple[str, ...]
    threads: tuple[int, ...]
    rounds: int
    memory: bool
    device: str
    attention: str
    compile: bool
    out: str | None

    def __post_init__(self) -> None:
        for threads in self.threads:
            check_threads("threads", threads)
        for name in ("tokens", "vocab_size", "rounds"):
            if getattr(self, name) < 1:
                raise invalid(name, getattr(self, name), "is not positive", "give a positive number")
        for name, known in (("members", COMPONENTS), ("precisions", PRECISIONS)):
            for value in getattr(self, name):
                if value not in known:
                    raise unknown(name, value, "is unknown", known)
        for name in ("contexts", "documents"):
            if any(value is not None and value < 2 for value in getattr(self, name)):
                raise invalid(name, list(getattr(self, name)), "are shorter than two tokens", "give longer ones")
        for name in ("members", "contexts", "documents", "precisions", "threads"):
            if not getattr(self, name):
                raise invalid(name, [], "is empty", "give at least one")
        if self.attention not in BACKENDS:
            raise unknown("attention", self.attention, "is not a backend", BACKENDS)

    def cases(self) -> Iterable[Case]:
        """Every shape of rows that documents fit into, for every member."""
        size, device = self.size, str(choose_device(self.device, ProcessGroup()))
        for context, document, member in itertools.product(self.contexts, self.documents, self.members):
            if document is None or document < context:
                rows = max(1, self.tokens // context)
                yield Case(member, size.model(self.vocab_size), context, rows, document, self.mask_rate, device)

    def sides(self, member: str) -> list[Side]:
        """Ours and the peers, in every precision."""
        names = (OURS, *PEERS[member])
        return [Side(name, precision, self.attention, self.compile) for name in names for precision in self.precisions]


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio`, `low` and `high` are our speed over the peer's: median, 10 % and 90 % of the turns.

    Speeds are tokens per second, peaks bytes (None: not asked for).
    """

    size: str
    shape: str
    member: str
    peer: str
    precision: str
    threads: int
    ratio: float
    low: float
    high: float
    share_of_matrix_rate: float
    tokens_per_second: float
    peer_tokens_per_second: float
    matrix_rate: float
    peak: int | None
    peer_peak: int | None

    @property
    def line(self) -> str:
        """The row as it is printed."""
        spread = f"{self.low:.2f} to {self.high:.2f}"
        peaks = [f"{value / 2**20:,.0f}" if value else "-" for value in (self.peak, self.peer_peak)]
        return (
            f"{self.precision:<11}{self.peer:<15}{self.tokens_per_second:>11,.0f}{self.peer_tokens_per_second:>11,.0f}"
            f"{self.ratio:>7.2f}{spread:>14}{self.share_of_matrix_rate:>13.2f}{peaks[0]:>7}{peaks[1]:>10}"
        )


@entry("benchmark", BenchmarkRequest)
def main(request: BenchmarkRequest) -> None:
    """Print, and write, a row for each of our precisions against each peer."""
    machine = numerics(choose_device(request.device, ProcessGroup())) | {"vector_instructions": vector_instructions()}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    for case, threads in itertools.product(request.cases(), request.threads):
        print(f"\n{request.size.name} {case.member}, {case.layout}, {threads} thread(s)\n{HEADER}", flush=True)
        for row in compare(request, case, threads):
            print(row.line, flush=True)
            if request.out:
                append_json_lines(Path(request.out), [asdict(row) | {"machine": machine}])


def compare(request: BenchmarkRequest, case: Case, threads: int) -> list[Row]:
    """The rows of one case. Raises RuntimeError where the sides do not compute the same loss."""
    torch.set_num_threads(threads)
    sides = request.sides(case.member)
    peaks = {side: peak_memory(case, side, threads) if request.memory else None for side in sides}
    seconds, rates = in_turns(case, sides, request.rounds)
    tokens, flops, rows = case.rows * case.context, case.flops(), []
    ours = [side for side in sides if side.name == OURS]
    for side, peer in itertools.product(ours, [side for side in sides if side.name != OURS]):
        ratios = sorted(their / our for our, their in zip(seconds[side], seconds[peer], strict=True))
        tenth = len(ratios) // 10
        turns = zip(seconds[side], rates[side.precision], strict=True)
        rows.append(
            Row(
                size=request.size.name,
                shape=case.layout,
                member=case.member,
                peer=f"{peer.name} {peer.precision}",
                precision=side.precision,
                threads=threads,
                ratio=statistics.median(ratios),
                low=ratios[tenth],
                high=ratios[-1 - tenth],
                share_of_matrix_rate=statistics.median(flops / time / rate for time, rate in turns),
                tokens_per_second=tokens / statistics.median(seconds[side]),
                peer_tokens_per_second=tokens / statistics.median(seconds[peer]),
                matrix_rate=statistics.median(rates[side.precision]),
                peak=peaks[side],
                peer_peak=peaks[peer],
            )
        )
    return rows


if __name__ == "__main__":
    main()
