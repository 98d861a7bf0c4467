"""python -m experiments.faults: kill real runs at random moments, damage their checkpoints, and compare with undisturbed ones.

Every member is trained once undisturbed, then under SIGKILLs: at random moments of its training, and as soon as a checkpoint
is seen being written. A run that ends between two kills is compared and begun anew, so every kill that counts hits a living
process. Then the newest checkpoint is damaged in each way and the end is trained again. Weights, optimiser state, training
rows and data order must always be those of the undisturbed run, byte for byte.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from ettin_core.foundation.errors import RunStopped, invalid
from ettin_core.foundation.folders import emptied_folder
from experiments.campaign.kills import DAMAGES, HEADER, MEMBERS, MemberFaults
from experiments.cli.entry import entry

MAKER = "fault campaign"


@dataclass(frozen=True)
class FaultsRequest:
    """conf/faults.yaml."""

    members: tuple[str, ...]
    kills: int
    seed: int
    tokens: int
    out: str

    def __post_init__(self) -> None:
        if self.kills < 1:
            raise invalid("kills", self.kills, "is not positive", "use 30")
        for member in self.members:
            if member not in MEMBERS:
                raise invalid("members", member, "is not a member", f"use some of {', '.join(MEMBERS)}")


@entry("faults", FaultsRequest)
def main(request: FaultsRequest) -> None:
    """Run the campaign and print its table; raises RunStopped when a run did not come back the same."""
    with emptied_folder(Path(request.out), MAKER) as out:
        campaign(request, out)


def campaign(request: FaultsRequest, out: Path) -> None:
    """Every fault of every member, in an empty folder."""
    generator = random.Random(request.seed)
    print(HEADER, flush=True)
    differing = []
    for number, member in enumerate(request.members):
        kills = request.kills // len(request.members) + (number < request.kills % len(request.members))
        differing += [f"{member}: {fault}" for fault in MemberFaults(member, request.tokens, out, generator).all(kills)]
    if differing:
        raise RunStopped("not the same as undisturbed: " + ", ".join(differing))
    damaged = len(DAMAGES) * len(request.members)
    print(f"{request.kills} kills, {damaged} damaged checkpoints: every run ended byte for byte the same")


if __name__ == "__main__":
    main()
