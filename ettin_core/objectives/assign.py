"""Targets of a batch at any moment of a run: which part of the objective each row is trained with, and what that makes of it."""

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ettin_core.data.loader import Batch
from ettin_core.foundation.randomness import bits, derive, uniform
from ettin_core.objectives.config import Component, ObjectiveConfig
from ettin_core.objectives.directions import DIRECTIONS
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.objectives.targets import Masking, Targets, Vocabulary, row_keys


@dataclass(frozen=True)
class RunPosition:
    """Where in a run a step is: its global step, and the share of the run's tokens that came before it, exactly."""

    step: int
    done: Fraction


def make_targets(
    config: ObjectiveConfig,
    direction: str,
    batch: Batch,
    vocabulary: Vocabulary,
    rate: float,
    key: int,
    moment: RunPosition,
) -> Targets:
    """The targets of a batch at a moment of a run of a direction, with a mask rate; `key` is that of the phase's masks.

    A pure function of each row: how the global batch is cut into parts does not matter.
    """
    parts = config.under(direction)
    masking = Masking(rate, config.mask_share, config.random_share, config.scored_share)
    chosen = assign_rows(config, parts, batch, key, moment)
    if len(set(chosen.tolist())) == 1 and config.name != "mixture":  # a mixture looks at all its rows in the same way
        return component_targets(parts[int(chosen[0])], batch, vocabulary, masking, key)
    inputs, prefix_mask = batch.tokens.copy(), np.zeros(batch.tokens.shape, dtype=bool)
    scored_positions, labels = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    width = batch.tokens.shape[1]
    for number, part in enumerate(parts):
        rows = np.flatnonzero(chosen == number)
        if len(rows):
            own = subset(batch, rows)
            made = component_targets(part, own, vocabulary, masking, key)
            inputs[rows] = made.inputs
            prefix_mask[rows] = prefix_tokens(part.direction, own, key)
            scored_positions.append(rows[made.scored_positions // width] * width + made.scored_positions % width)
            labels.append(made.labels)
    places, wanted = np.concatenate(scored_positions), np.concatenate(labels)
    order = np.argsort(places)
    return Targets(inputs, places[order], wanted[order], "prefix", prefix_mask)


def assign_rows(
    config: ObjectiveConfig, parts: tuple[Component, ...], batch: Batch, key: int, moment: RunPosition
) -> np.ndarray:
    """The number of the part of each row, (B,)."""
    if config.name == "mixture":
        limits = np.cumsum([part.weight for part in parts])
        draws = uniform(row_keys(batch, derive(key, "parts"))[:, 0], np.zeros(len(batch.rows), np.uint64))
        return np.minimum(np.searchsorted(limits, draws * limits[-1], side="right"), len(parts) - 1)
    return np.full(len(batch.rows), part_at(config, parts, moment))


def part_at(config: ObjectiveConfig, parts: tuple[Component, ...], moment: RunPosition) -> int:
    """The number of the part of a moment, where a schedule goes by time; of a mixture, which does not, the first."""
    if config.name == "mixture":
        return 0
    # Weights are the decimal numbers that were written: as binary fractions 29 % of a run would end a step late.
    edges = list(itertools.accumulate(Fraction(str(part.weight)) for part in parts))
    place = moment.step % edges[-1] if config.name == "alternation" else moment.done * edges[-1]
    return min(bisect_right(edges, place), len(parts) - 1)


def component_targets(part: Component, batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int) -> Targets:
    """The targets of a batch that is trained with one part throughout."""
    visibility = DIRECTIONS[part.direction].visibility
    prefix_mask = prefix_tokens(part.direction, batch, key)
    made = OBJECTIVES[part.objective].make(batch, vocabulary, masking, key, prefix_mask)
    return Targets(*made, visibility, prefix_mask if visibility == "prefix" else None)


def prefix_tokens(direction: str, batch: Batch, key: int) -> np.ndarray:
    """Which tokens (B, S) are in the open prefix of their document under a direction, from a stream of its own."""
    if DIRECTIONS[direction].visibility != "prefix":
        return batch.real if DIRECTIONS[direction].visibility == "bidirectional" else np.zeros_like(batch.real)
    width = batch.tokens.shape[1]
    rows = row_keys(batch, derive(key, "prefix"))
    owners = np.arange(len(batch.rows))[:, None] * width + batch.document_ids
    numbers, places, lengths = np.unique(owners[batch.real], return_inverse=True, return_counts=True)
    keys = bits(rows[numbers // width, 0], (numbers % width).astype(np.uint64))
    prefixes = DIRECTIONS[direction].prefix_length(lengths, keys)
    prefix_mask = np.zeros(batch.tokens.shape, dtype=bool)
    prefix_mask[batch.real] = batch.position_ids[batch.real] < prefixes[places]
    return prefix_mask


def subset(batch: Batch, rows: np.ndarray) -> Batch:
    """Some rows of a batch."""
    return Batch(
        batch.tokens[rows], batch.document_ids[rows], batch.position_ids[rows], batch.rows[rows], batch.sources[rows]
    )
