"""Targets of a batch at any position of a run: assign rows to components, make the targets of each, merge them."""

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
    position: RunPosition,
) -> Targets:
    """The targets of a batch at a position of a run of a direction, with a mask rate; `key` is that of the phase's masks.

    A pure function of each row: how the global batch is divided into micro-batches does not matter.
    """
    components = config.under(direction)
    masking = Masking(rate, config.mask_share, config.random_share, config.scored_share)
    if config.name != "mixture":  # all rows have one component, whose direction they keep
        component = components[component_at(config, components, position)]
        return component_targets(component, batch, vocabulary, masking, key)
    chosen = assign_rows(config, components, batch, key, position)
    parts = []
    for number, component in enumerate(components):
        rows = np.flatnonzero(chosen == number)
        if len(rows):
            some = subset(batch, rows)
            targets = component_targets(component, some, vocabulary, masking, key)
            parts.append((rows, targets, prefix_tokens(component.direction, some, key)))
    return merge_targets(batch, parts)


def assign_rows(
    config: ObjectiveConfig, components: tuple[Component, ...], batch: Batch, key: int, position: RunPosition
) -> np.ndarray:
    """The number of the component of each row, (B,)."""
    if config.name == "mixture":
        limits = np.cumsum([component.weight for component in components])
        uniforms = uniform(row_keys(batch, derive(key, "parts"))[:, 0], np.zeros(len(batch.rows), np.uint64))
        return np.minimum(np.searchsorted(limits, uniforms * limits[-1], side="right"), len(components) - 1)
    return np.full(len(batch.rows), component_at(config, components, position))


def component_at(config: ObjectiveConfig, components: tuple[Component, ...], position: RunPosition) -> int:
    """The number of the component at a position of a run; 0 for a mixture, which does not depend on it."""
    if config.name == "mixture":
        return 0
    # Weights are the decimal numbers that were written: as binary fractions 29 % of a run would end a step late.
    edges = list(itertools.accumulate(Fraction(str(component.weight)) for component in components))
    turn = position.step % edges[-1] if config.name == "alternation" else position.done * edges[-1]
    return min(bisect_right(edges, turn), len(components) - 1)


def component_targets(
    component: Component, batch: Batch, vocabulary: Vocabulary, masking: Masking, key: int
) -> Targets:
    """The targets of a batch whose rows all have one component."""
    visibility = DIRECTIONS[component.direction].visibility
    prefix_mask = prefix_tokens(component.direction, batch, key)
    inputs, scored_positions, labels = OBJECTIVES[component.objective].make(
        batch, vocabulary, masking, key, prefix_mask
    )
    return Targets(inputs, scored_positions, labels, visibility, prefix_mask if visibility == "prefix" else None)


def merge_targets(batch: Batch, parts: list[tuple[np.ndarray, Targets, np.ndarray]]) -> Targets:
    """The targets of a batch from those of some of its rows each: (row numbers, targets, open tokens), as a prefix direction.

    Scored positions are flat within each part's rows and become flat within the batch, in order.
    """
    width = batch.tokens.shape[1]
    inputs, prefix_mask = batch.tokens.copy(), np.zeros(batch.tokens.shape, dtype=bool)
    positions, labels = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for rows, targets, open_tokens in parts:
        inputs[rows], prefix_mask[rows] = targets.inputs, open_tokens
        positions.append(rows[targets.scored_positions // width] * width + targets.scored_positions % width)
        labels.append(targets.labels)
    scored_positions = np.concatenate(positions)
    order = np.argsort(scored_positions)
    return Targets(inputs, scored_positions[order], np.concatenate(labels)[order], "prefix", prefix_mask)


def prefix_tokens(direction: str, batch: Batch, key: int) -> np.ndarray:
    """Which tokens (B, S) are in the open prefix of their document under a direction, from a separate random stream."""
    if DIRECTIONS[direction].visibility != "prefix":
        return batch.real if DIRECTIONS[direction].visibility == "bidirectional" else np.zeros_like(batch.real)
    width = batch.tokens.shape[1]
    rows = row_keys(batch, derive(key, "prefix"))
    owners = np.arange(len(batch.rows))[:, None] * width + batch.document_ids
    numbers, documents, lengths = np.unique(owners[batch.real], return_inverse=True, return_counts=True)
    keys = bits(rows[numbers // width, 0], (numbers % width).astype(np.uint64))
    prefixes = DIRECTIONS[direction].prefix_length(lengths, keys)
    prefix_mask = np.zeros(batch.tokens.shape, dtype=bool)
    prefix_mask[batch.real] = batch.position_ids[batch.real] < prefixes[documents]
    return prefix_mask


def subset(batch: Batch, rows: np.ndarray) -> Batch:
    """Some rows of a batch."""
    return Batch(
        batch.tokens[rows], batch.document_ids[rows], batch.position_ids[rows], batch.rows[rows], batch.sources[rows]
    )
