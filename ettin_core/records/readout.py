"""How the predictions of a trained model are read: what its objective declares and every measurement asks. No torch.

name     the output at a position predicts                        what it sees
clm      the next token                                           the tokens up to its own
mlm      the masked token in its own place                        what its direction shows
mntp     the masked token in the next place                       what its direction shows
ahead2   the token two places on (or any other number above one)  the tokens up to its own
none     nothing that could be asked for: the model is trained and exported, and not measured
"""

import re
from dataclasses import dataclass

from ettin_core.foundation.errors import unknown

NOT_READ = "none"
KINDS = CAUSAL, MASKED, AHEAD = "causal", "masked", "ahead"  # of models, as protocols distinguish them


@dataclass(frozen=True)
class Readout:
    """The output at position p predicts the token at p + `ahead`, which is `masked` or ahead of all that is seen."""

    name: str
    ahead: int
    masked: bool

    @property
    def kind(self) -> str:
        """For which protocols: of `causal` models (next token), `masked` ones, or those that predict further `ahead`."""
        return MASKED if self.masked else CAUSAL if self.ahead == 1 else AHEAD


NEXT_TOKEN, AT_MASK, BEFORE_MASK = Readout("clm", 1, False), Readout("mlm", 0, True), Readout("mntp", 1, True)
KNOWN = {readout.name: readout for readout in (NEXT_TOKEN, AT_MASK, BEFORE_MASK)}


def readout_named(name: str) -> Readout | None:
    """The readout of a name; None for one that is not read. Raises ValueError for an unknown name."""
    if name in KNOWN or name == NOT_READ:
        return KNOWN.get(name)
    offset = re.fullmatch(r"ahead([2-9]|[1-9]\d+)", name)
    if offset is None:
        raise unknown("readout", name, "is not a readout", (*KNOWN, "ahead<number>", NOT_READ))
    return Readout(name, int(offset[1]), False)


def name_of(readout: Readout | None) -> str:
    """The name that records and exports state."""
    return NOT_READ if readout is None else readout.name


def fills_masks(name: str) -> bool:
    """Whether a model of the readout `name` fills masks; others predict tokens from those before."""
    return name in KNOWN and KNOWN[name].masked
