"""A new objective in a script: predict the token two places on. Registered, then trained like any other."""

import numpy as np

import ettin_core as ettin
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Objective


def skip(batch, vocabulary, masking, key, prefix_mask):
    """Inputs (B, S), flat positions (N,) that are scored, and their labels (N,)."""
    scored = np.zeros_like(batch.real)
    scored[:, :-2] = batch.real[:, 2:] & (batch.document_ids[:, :-2] == batch.document_ids[:, 2:])
    positions = np.flatnonzero(scored)
    return batch.tokens, positions, batch.tokens.flat[positions + 2]


OBJECTIVES["skip"] = Objective("skip", skip, corrupts=False, readout="ahead2", leaks_under=("bidirectional", "prefix"))
member = ["member.name=skip", "member.direction=causal", "member.objective.name=skip"]
short = ["recipe.tokens=12000", "data.documents=1500", "data.vocab_size=1024"]
run = ettin.train(*member, *short, size="nano", data="world", recipe="smoke")
first, last = run.history[0], run.history[-1]
print(f"{run.name}: loss {first.loss:.2f} nats after {first.tokens:,} tokens, {last.loss:.2f} after {last.tokens:,}")
