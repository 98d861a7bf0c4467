"""One model class of lm-evaluation-harness for both members, registered as `ettin`.

A model of the next token is the harness's own `hf`, unchanged but for texts (texts.py), more specific errors and a rolling
perplexity that does not score BOS. Any other (masked, or of tokens further ahead) answers every kind of request through
`EvaluatedModel`, under a named protocol: log-likelihoods of the same tokens, rolling perplexity over the same windows, and
text written greedily, by a masked model into masks from left to right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm
from transformers import AutoModelForMaskedLM

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.exports import own_export
from ettin_core.evaluation.harness import NAME
from ettin_core.evaluation.harness.texts import LettersLM
from ettin_core.evaluation.pretrained import PretrainedTokenizer, asked_readout, body_of, weights_hash, window_of
from ettin_core.evaluation.requests import TokenizerLike
from ettin_core.evaluation.scoring import (
    TRAILING_MASKS,
    VERSIONS,
    protocols_of,
    score,
    score_pairs,
    segment,
    split_pair,
)
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_json
from ettin_core.foundation.strict_config import build
from ettin_core.interop.huggingface import METADATA_FILE, fetch
from ettin_core.interop.reading import loads_as_causal, readout_of
from ettin_core.records.folders import find_run_or_none, parse_name
from ettin_core.records.readout import NEXT_TOKEN
from ettin_core.training.config import RunConfig

BATCH_SIZE = 64


@register_model(NAME)
class EttinLM(LettersLM):
    """`pretrained` is a transformers folder, a hub id, or a run of ours; `revision` a hub revision, or a run's checkpoint.

    `readout` (mlm, clm, mntp, ahead2) and `protocol` follow from the model when left out. `batch_size` is requests of a model
    of the next token, rows of any other, `batch_tokens` an upper bound of the latter. Other arguments of `hf` are passed to it.
    """

    def __init__(
        self,
        pretrained: str,
        revision: str | None = None,
        readout: str | None = None,
        protocol: str | None = None,
        batch_size: int | str | None = None,
        batch_tokens: int | None = None,
        device: str | None = None,
        corpora_dir: str = "corpora",
        **options: Any,
    ) -> None:
        folder = transformers_folder(str(pretrained), revision, corpora_dir)
        read_as = asked_readout(readout) or readout_of(folder)
        self.facts = _facts(str(pretrained), revision, folder, read_as.name)
        if not loads_as_causal(folder, read_as):
            self.AUTO_MODEL_CLASS = AutoModelForMaskedLM
        super().__init__(
            pretrained=str(folder),
            batch_size=BATCH_SIZE if batch_size is None else batch_size,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            **options,
        )
        self.evaluated_model: EvaluatedModel | None = None  # answers instead of `hf`
        if read_as != NEXT_TOKEN:
            tokenizer = PretrainedTokenizer(folder, masked=read_as.masked)
            window = self._max_length or window_of(self.model, tokenizer)
            rows = None if str(self.batch_size).startswith("auto") else int(self.batch_size)
            body, view = body_of(self.model, read_as)
            self.evaluated_model = EvaluatedModel(
                body, view, read_as, tokenizer, window, self.device, batch_tokens, rows
            )
        defined = protocols_of(read_as)
        self.protocol = protocol or defined[0]
        if self.protocol not in defined:
            problem = f"is not defined for this model (readout {read_as.name})"
            raise invalid("protocol", self.protocol, problem, f"use {' or '.join(defined)}")

    @property
    def max_length(self) -> int:
        """The longest row, in tokens."""
        return int(super().max_length) if self.evaluated_model is None else self.evaluated_model.context

    def get_model_info(self) -> dict[str, Any]:
        """What the harness stores with its results: its own facts and which checkpoint was asked in which way."""
        settings = {"protocol": self.protocol, "protocol_version": VERSIONS[self.protocol], **self.counts}
        return super().get_model_info() | {NAME: self.facts | settings}

    def apply_chat_template(self, *arguments: Any, **options: Any) -> str:
        """A chat as the template writes it, whose special tokens our own tokenizer reads as such, too."""
        if self.evaluated_model is not None:
            self.evaluated_model.tokenizer.backend.encode_special_tokens = False
        return super().apply_chat_template(*arguments, **options)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log p(continuation | context), whether it is the greedy one) of each request.

        Raises ValueError for an empty continuation, or one longer than the context window.
        """
        for request in requests:
            if not request.args[1]:
                raise invalid(
                    "continuation", "", f"of task {request.task_name!r} is empty", "correct its doc_to_choice"
                )
        answers = (
            super().loglikelihood(requests, disable_tqdm)
            if self.evaluated_model is None
            else self._loglikelihood(self.evaluated_model, requests, disable_tqdm)
        )
        self.count(requests)
        return answers

    def _loglikelihood(
        self, model: EvaluatedModel, requests: list[Instance], disable_tqdm: bool
    ) -> list[tuple[float, bool]]:
        pairs = [split_pair(model.tokenizer, *request.args) for request in requests]
        for request, pair in zip(requests, pairs, strict=True):
            self._check(len(pair.positions))
            if pair.fused:
                self.fused.add(request.args)
        scores = score_pairs(model, pairs, self.protocol, None if disable_tqdm else "log-likelihoods")
        answers = [(result.log_probability, result.greedy) for result in scores]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return answers

    def _loglikelihood_tokens(self, requests: Sequence[Any], *arguments: Any, **options: Any) -> list[Any]:
        for (context, continuation), _, ids in ((key or ("", ""), *rest) for key, *rest in requests):
            if not ids:
                problem = f"has no token of its own after {context[-40:]!r}"
                raise invalid("continuation", continuation, problem, "correct the task's doc_to_choice")
            self._check(len(ids))
        return super()._loglikelihood_tokens(requests, *arguments, **options)

    def _check(self, length: int) -> None:
        if length > self.max_length:
            problem = f"do not fit into the window of {self.max_length}"
            raise invalid("continuation", f"{length} tokens", problem, "leave the item out, or use a rolling task")

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """log p of each text, window by window; BOS and EOS are not scored.

        The windows are the harness's: each begins where the one before ended, and its tokens see what before them fits.
        """
        self.count(requests)
        if self.evaluated_model is None:
            kept = vars(self)["add_bos_token"]
            self.add_bos_token = False  # or `hf` scores the BOS its tokenizer adds
            try:
                return super().loglikelihood_rolling(requests, disable_tqdm)
            finally:
                self.add_bos_token = kept
        texts = [segment(self.evaluated_model.tokenizer, request.args[0]) for request in requests]
        places = [tuple(range(len(text.ids))) for text in texts]
        scores = score(
            self.evaluated_model, texts, places, self.protocol, None if disable_tqdm else "rolling log-likelihoods"
        )
        for request, result in zip(requests, scores, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, result.log_probability)
        return [result.log_probability for result in scores]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The greedy text after each context, up to a stop string, EOS, or the number of tokens.

        A masked model fills the first of the trailing masks, for all requests at once, one token a step. Raises ValueError
        for sampling, which only `hf` has, and for a context too short for a model of tokens further ahead.
        """
        self.count(requests)
        if self.evaluated_model is None:
            return super().generate_until(requests, disable_tqdm)
        writers = [self._writer(*request.args) for request in requests]
        special = self.evaluated_model.tokenizer.special
        tail = (*[special.mask] * TRAILING_MASKS, special.eos) if self.evaluated_model.reading.masked else ()
        limit = self.evaluated_model.context - len(tail)
        with tqdm(total=len(writers), desc="generate_until", unit="text", disable=disable_tqdm) as bar:
            while going := [writer for writer in writers if not writer.done]:
                rows, reads = [], []
                for writer in going:
                    before = (special.bos, *writer.context, *writer.written)[-limit:]
                    rows.append((*before, *tail))
                    reads.append(self.evaluated_model.read_position(len(before)))
                    if reads[-1] < 0:
                        problem = (
                            f"is too short for a model that predicts {self.evaluated_model.reading.ahead} tokens ahead"
                        )
                        raise invalid(
                            "context", self.evaluated_model.tokenizer.decode(writer.context), problem, "give more"
                        )
                for writer, token in zip(going, self.evaluated_model.likeliest(rows, reads), strict=True):
                    writer.add(token)
                bar.update(sum(writer.done for writer in going))
        for request, writer in zip(requests, writers, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, writer.text)
        return [writer.text for writer in writers]

    def _writer(self, context: str, settings: dict[str, Any]) -> "_Writer":
        assert self.evaluated_model is not None
        options = dict(normalize_gen_kwargs(dict(settings), self.max_gen_toks))
        if options.get("do_sample") or options.get("temperature"):
            raise invalid(
                "generation_kwargs",
                settings,
                "asks for sampling",
                f"a model read as {self.evaluated_model.reading.name} writes greedily",
            )
        tokenizer = self.evaluated_model.tokenizer
        most = int(options["max_gen_toks"])
        if most >= self.max_length:
            problem = f"leaves no token for a context in the window of {self.max_length}"
            raise invalid("max_gen_toks", most, problem, "give fewer: --gen_kwargs max_gen_toks=32")
        stops = handle_stop_sequences(options.get("until"), tokenizer.decode([tokenizer.special.eos], True))
        (ids,) = tokenizer.encode([context])
        return _Writer(tokenizer, tuple(ids[-(self.max_length - most) :]), stops, most)


class _Writer:
    """A text that grows after its context until it holds a stop string, EOS, or enough tokens."""

    def __init__(self, tokenizer: TokenizerLike, context: tuple[int, ...], stops: list[str], most: int) -> None:
        self.tokenizer, self.context, self.stops, self.most = tokenizer, context, stops, most
        self.written: list[int] = []
        self.done = most == 0

    def add(self, token: int) -> None:
        """Write a token, unless it is EOS."""
        if token == self.tokenizer.special.eos:
            self.done = True
            return
        self.written.append(token)
        text = self.tokenizer.decode(self.written)
        self.done = len(self.written) >= self.most or any(stop in text for stop in self.stops)

    @property
    def text(self) -> str:
        """What was written before the first stop string."""
        return str(postprocess_generated_text(self.tokenizer.decode(self.written), self.stops, None))


def transformers_folder(source: str, revision: str | None, corpora_dir: str) -> Path:
    """The transformers folder of a folder, a hub id, or a run; a run's checkpoint is exported once, into the run."""
    folder = find_run_or_none(source)
    if folder is None:
        return fetch(source, revision)
    run = build(RunConfig, folder.config())
    if not (Path(corpora_dir) / run.corpus / "manifest.json").is_file():
        remedy = "give the folder of prepared corpora: --model_args corpora_dir=<folder>"
        raise invalid("corpora_dir", corpora_dir, f"does not hold the run's corpus {run.corpus}", remedy)
    corpus = Corpus(Path(corpora_dir) / run.corpus)
    return own_export(run, folder, corpus, revision)


def _facts(source: str, revision: str | None, folder: Path, readout: str) -> dict[str, Any]:
    """Which checkpoint this is: by its run where ettin.json names one, else by its source."""
    file = folder / METADATA_FILE
    known = read_json(file) if file.is_file() else {}
    if known.keys() & {"quantisation", "tuned"}:  # another model than the run that it was made of
        known = {}
    run = known.get("run", source)
    size, member, seed = parse_name(run) or ("unknown", readout, 0)
    return {
        "run": run,
        "checkpoint": known.get("checkpoint", revision or "main"),
        "size": size,
        "member": member,
        "seed": seed,
        "readout": readout,
        "weights": weights_hash(folder),
    }
