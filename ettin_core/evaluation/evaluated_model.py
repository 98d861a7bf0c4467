"""The one interface to every checkpoint: log-probabilities of tokens at positions of rows, and vectors, batched.

A protocol makes requests and does not know which member answers, beyond how it is read: it predicts tokens from those before
(causal) or fills masks (masked), as its objective declares. What answers is a `ScoringBackend`: our own transformer, or a
Hugging Face model behind the same methods (pretrained.py).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from ettin_core.checkpoints import native
from ettin_core.data.loader import pack
from ettin_core.evaluation.layouts import Layout, Row, alone, sharing
from ettin_core.evaluation.requests import ScoringBatch, ScoringRequest, TokenizerLike, row_batches, scoring_batches
from ettin_core.foundation.distributed import ProcessGroup, choose_device
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.model.attention_backends import backend_of_varied_rows
from ettin_core.model.config import AttentionSpec
from ettin_core.model.transformer import Transformer
from ettin_core.objectives.targets import Vocabulary
from ettin_core.records.readout import Readout

if TYPE_CHECKING:
    from ettin_core.evaluation.scoring import Score

Given = TypeVar("Given")
Result = TypeVar("Result")
BATCH_TOKENS = {"cpu": 1024, "cuda": 65_536}  # on a CPU, what stays in its caches
LOGITS = {"cpu": 2**24, "cuda": 2**27}  # held at once: on a CPU what is quickly read again
BAR_DELAY = 5.0  # seconds after which a bar of rows appears
POOLINGS = ("mean", "last", "first", "weighted")


class ScoringBackend(Protocol):
    """What answers: a module from rows to hidden states, and from hidden states of the scored positions to predictions."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""

    def eval(self) -> Self:
        """The same without dropout."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Its weights."""

    def __call__(
        self,
        tokens: torch.Tensor,
        document_ids: torch.Tensor,
        position_ids: torch.Tensor,
        view: AttentionSpec | None,
        scored_positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states (B, S, H) of rows (B, S), which are padded on the right where `document_ids` is -1.

        With `scored_positions` (B, R) of each row, the states at those alone, (B, R, H).
        """

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Predictions (N, V) of hidden states (N, H)."""


class EvaluatedModel:
    """A checkpoint ready to be measured."""

    def __init__(
        self,
        model: ScoringBackend,
        view: AttentionSpec | None,
        readout: Readout | None,
        tokenizer: TokenizerLike,
        context: int,
        device: str | torch.device = "auto",
        batch_tokens: int | None = None,
        batch_rows: int | None = None,
        name: str = "",
        weights: str = "",
    ) -> None:
        """`view` is the attention of our own transformer (a Hugging Face model knows its own: None).

        `readout` is how predictions are read (None: they are not), `context` the longest row in tokens, `name` and `weights`
        what the model is called and the hash of its weights. A batch holds at most
        `batch_tokens` tokens, padding included (None: as suits the device), and `batch_rows` rows (None: any number).
        """
        self.device = choose_device(device, ProcessGroup()) if isinstance(device, str) else device
        self.model = model.to(self.device).eval()
        self.view = view
        self.readout = readout
        self.tokenizer = tokenizer
        self.context = context
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cuda"])
        self.batch_rows = batch_rows
        self.name = name
        self.weights = weights
        if isinstance(model, Transformer):
            model.attention_backend = backend_of_varied_rows(self.device)
        self.shares_beginnings = (
            isinstance(model, Transformer)
            and view is not None
            and set(view.directions(model.config.num_layers)) == {"causal"}
        )
        self.shows_rows = False  # whether a bar of rows is drawn while many are asked

    @property
    def is_causal(self) -> bool:
        """Whether the model predicts tokens from those before (otherwise masked ones)."""
        if self.readout is not None:
            return not self.readout.masked
        assert self.view is not None, "only our own transformer has no readout"
        return self.view.direction == "causal"

    @property
    def transformer(self) -> tuple[Transformer, AttentionSpec]:
        """Our own transformer and its attention, of a run's model: for exports and fine-tuning, which need more than scores."""
        assert isinstance(self.model, Transformer) and self.view is not None, "not the model of a run"
        return self.model, self.view

    @property
    def reading(self) -> Readout:
        """How predictions are read. Raises ValueError for a model that is not read."""
        if self.readout is None:
            raise invalid("model", self.name, "declares no readout", "measure one whose objective says how it is read")
        return self.readout

    @property
    def vocabulary(self) -> Vocabulary:
        """What objectives must know of the tokenizer."""
        return Vocabulary.of(self.tokenizer)

    def read_position(self, position: int) -> int:
        """The output position that predicts the token at `position`; below zero where there is none."""
        return position - self.reading.ahead

    def log_probability(self, pairs: Sequence[tuple[str, str]], protocol: str | None = None) -> "list[Score]":
        """log p(continuation | context) in nats of (context, continuation) pairs, under a protocol of `scoring`.

        None: `conditional` of a causal model, `masked_left_to_right` of a masked one. A continuation longer than the
        context window is scored window by window; one that is `fused` with its context says so. Raises ValueError for a
        protocol that is not defined for the model, or an empty continuation.
        """
        from ettin_core.evaluation.scoring import score_pairs, split_pair  # which is written in terms of this class

        return score_pairs(self, [split_pair(self.tokenizer, *pair) for pair in pairs], protocol)

    def embed(self, texts: Sequence[str], pooling: str = "mean") -> np.ndarray:
        """Vectors of texts, (n, H) float32: the last hidden states of BOS text (and EOS, if masked), pooled.

        Pooling: `mean`, `last` token, `first` token, or mean `weighted` by position (Muennighoff 2022, SGPT). A text longer
        than the context keeps its beginning. Raises ValueError for an unknown pooling.
        """
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, "is not a pooling", POOLINGS)
        special = self.tokenizer.special
        after = [] if self.is_causal else [special.eos]
        room = self.context - 1 - len(after)
        rows = [(special.bos, *ids[:room], *after) for ids in self.tokenizer.encode(list(texts))]
        vectors: dict[tuple[int, ...], np.ndarray] = {}
        batches = self._batches(list(dict.fromkeys(rows)))
        for batch, states in zip(batches, self._computed(self._states, batches), strict=True):
            for row, state in zip(batch, states.float(), strict=True):
                vectors[row] = _pool(state[: len(row)], pooling).cpu().numpy()
        return np.stack([vectors[row] for row in rows]) if rows else np.empty((0, 0), dtype=np.float32)

    def sums(self, requests: Sequence[ScoringRequest]) -> list[float]:
        """For each request the sum of its log-probabilities (nats). Independent of batching up to fp32 rounding."""
        return [float(values.sum()) for values in self.log_probabilities(requests)]

    def log_probabilities(self, requests: Sequence[ScoringRequest]) -> list[np.ndarray]:
        """For each request the log-probability (nats, float64) of each of its targets."""
        return [values for values, _ in self.score_requests(requests)]

    def score_requests(self, requests: Sequence[ScoringRequest]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each request the log-probability (nats, float64) of each target, and whether it is the likeliest token.

        Equal rows are computed once, and a position of a row that several requests want is predicted once. Rows of a causal
        model of ours that begin alike share the beginning where that is faster (layouts.py). Raises ValueError for a model
        that answers with anything but finite numbers: no comparison would mean anything.
        """
        results: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0, dtype=bool))] * len(requests)
        batches = scoring_batches(requests, self.batch_tokens, self.batch_rows, self._lay_out)
        rows = sum(batch.rows for batch in batches)
        with tqdm(
            total=rows, desc="rows", unit="row", leave=False, delay=BAR_DELAY, disable=not self.shows_rows
        ) as bar:
            for batch, (values, hits) in zip(batches, self._computed(self._score, batches), strict=True):
                scores = zip(batch.by_request(values), batch.by_request(hits), strict=True)
                for number, score in zip(batch.requests, scores, strict=True):
                    results[number] = score
                bar.update(batch.rows)
        if not all(np.isfinite(values).all() for values, _ in results):
            raise invalid("model", self.name, "gives log-probabilities that are not finite", "measure another")
        return results

    @torch.inference_mode()
    def likeliest(self, rows: Sequence[tuple[int, ...]], reads: Sequence[int]) -> list[int]:
        """The likeliest token at output position `reads` of each row."""
        positions: dict[tuple[int, ...], set[int]] = {}
        for row, position in zip(rows, reads, strict=True):
            positions.setdefault(row, set()).add(position)
        tokens: dict[tuple[tuple[int, ...], int], int] = {}
        for batch in self._batches(list(positions)):
            scored_at = [(line, position) for line, row in enumerate(batch) for position in sorted(positions[row])]
            lines, columns = zip(*scored_at, strict=True)
            best = self.model.logits(self._states(batch)[list(lines), list(columns)]).argmax(-1).tolist()
            tokens |= {(batch[line], position): token for (line, position), token in zip(scored_at, best, strict=True)}
        return [tokens[row, position] for row, position in zip(rows, reads, strict=True)]

    def _lay_out(self, rows: Sequence[Row]) -> list[Layout]:
        if not self.shares_beginnings:
            return alone(rows)
        return sharing(rows, self.transformer[0].config, self.tokenizer.special.bos)

    def _batches(self, rows: Sequence[Row]) -> list[list[Row]]:
        return row_batches(rows, self.batch_tokens, self.batch_rows)

    def _computed(self, function: Callable[[Given], Result], items: Sequence[Given]) -> Iterator[Result]:
        """The function of each item, in order. On a CPU torch's threads share out the items: in small batches they would only
        wait for each other over every operation.
        """
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        if threads == 1 or len(items) < 2:
            yield from map(function, items)
            return
        pool = ThreadPoolExecutor(threads)
        torch.set_num_threads(1)
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _states(self, rows: Sequence[Row]) -> torch.Tensor:
        return self._states_of(alone(rows), None)

    @torch.inference_mode()
    def _states_of(self, layouts: Sequence[Layout], scored_positions: np.ndarray | None) -> torch.Tensor:
        """Hidden states of rows (B, S, H), or of `scored_positions` (B, R) alone."""
        special = self.tokenizer.special
        ids = [np.array(layout.ids, dtype=np.int64) for layout in layouts]
        batch = pack(ids, np.arange(len(layouts)), special.bos, special.pad)
        extra = {} if scored_positions is None else {"scored_positions": scored_positions}
        if any(len(layout.rows) > 1 for layout in layouts):
            extra["branch_ids"] = batch.document_ids.copy()
            for line, layout in enumerate(layouts):
                batch.position_ids[line, : len(layout)] = layout.positions
                extra["branch_ids"][line, : len(layout)] = layout.branches
        arrays = (batch.tokens, batch.document_ids, batch.position_ids)
        tokens, document_ids, position_ids = (torch.from_numpy(array).to(self.device) for array in arrays)
        options = {name: torch.from_numpy(array).to(self.device) for name, array in extra.items()}
        return self.model(tokens, document_ids, position_ids, self.view, **options)

    @torch.inference_mode()
    def _score(self, batch: ScoringBatch) -> tuple[np.ndarray, np.ndarray]:
        """log p of each target of a batch, and whether it is the likeliest where it is scored."""
        asked, which = np.unique(batch.scored_at, axis=0, return_inverse=True)
        column = np.arange(len(asked)) - np.searchsorted(asked[:, 0], asked[:, 0])  # its place among its row's reads
        scored_positions = np.zeros((len(batch.layouts), int(column.max(initial=0)) + 1), dtype=np.int64)
        scored_positions[asked[:, 0], column] = asked[:, 1]
        states = self._states_of(batch.layouts, scored_positions)
        picked = torch.from_numpy(np.stack((asked[:, 0], column), axis=1)).to(self.device)
        values, hits = np.empty(len(batch.targets)), np.empty(len(batch.targets), dtype=bool)
        size = max(1, LOGITS.get(self.device.type, LOGITS["cuda"]) // self.tokenizer.vocab_size)
        for begin in range(0, len(asked), size):
            row, place = picked[begin : begin + size].unbind(-1)
            scores = self.model.logits(states[row, place]).float().log_softmax(-1)
            within = np.flatnonzero((which >= begin) & (which < begin + size))
            line = torch.from_numpy(which[within] - begin).to(self.device)
            target = torch.from_numpy(batch.targets[within]).to(self.device)
            values[within] = scores[line, target].double().cpu().numpy()
            hits[within] = (scores.argmax(-1)[line] == target).cpu().numpy()
        return values, hits


def _pool(states: torch.Tensor, pooling: str) -> torch.Tensor:
    """(S, H) -> (H,)."""
    if pooling == "last":
        return states[-1]
    if pooling == "first":
        return states[0]
    if pooling == "mean":
        return states.mean(0)
    weights = torch.arange(1, len(states) + 1, device=states.device, dtype=states.dtype)[:, None]
    return (states * weights).sum(0) / weights.sum()


def load_weights(model: Transformer, checkpoint: Path, identity: str) -> str:
    """Load a run's checkpoint into a model after checking it whole; returns the hash of the weights."""
    weights = native.load(checkpoint, identity).model
    model.load_state_dict(weights)
    return native.hash_tensors(weights)
