"""Any Hugging Face causal or masked model behind the one interface: safetensors only, no remote code, any fast tokenizer.

The readout says how predictions are read (records/readout.py). Left open, it is what ettin.json of one of our exports says, and
else follows from the architecture.
"""

from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ettin_core.data.tokenizer import SpecialTokens, token_ids
from ettin_core.evaluation.evaluated_model import EvaluatedModel, ScoringBackend
from ettin_core.foundation.errors import invalid, unknown
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text
from ettin_core.interop.huggingface import adopt, fetch
from ettin_core.interop.reading import loads_as_causal, readout_of
from ettin_core.model.config import AttentionSpec
from ettin_core.model.transformer import pick
from ettin_core.records.readout import KNOWN, NEXT_TOKEN, Readout, readout_named

ABSENT = -1  # the id of a special token that a tokenizer lacks and no protocol of its model asks for


def open_pretrained(
    source: str,
    readout: str | None = None,
    revision: str | None = None,
    device: str = "auto",
    batch_tokens: int | None = None,
    batch_rows: int | None = None,
) -> EvaluatedModel:
    """A transformers folder, or a hub id (at a branch, tag or commit), ready to be measured, in fp32.

    Raises ValueError, in one line, for what cannot be fetched, has no safetensors, no prediction head, no fast tokenizer, or
    no mask token where the readout needs one.
    """
    folder = fetch(source, revision)
    weights = weights_hash(folder)
    read_as = asked_readout(readout) or readout_of(folder)
    tokenizer = PretrainedTokenizer(folder, masked=read_as.masked)
    model = load_model(folder, loads_as_causal(folder, read_as))
    context = window_of(model, tokenizer)
    name = source if revision is None else f"{source}@{revision}"
    body, view = body_of(model, read_as)
    return EvaluatedModel(body, view, read_as, tokenizer, context, device, batch_tokens, batch_rows, name, weights)


def asked_readout(name: str | None) -> Readout | None:
    """The readout that a user names (None: none). Raises ValueError for an unknown one."""
    if name is not None and name not in KNOWN and not name.startswith("ahead"):
        raise unknown("readout", name, "is not a readout", (*KNOWN, "ahead<number>"))
    return None if name is None else readout_named(name)


def body_of(model: Any, readout: Readout) -> tuple[ScoringBackend, AttentionSpec | None]:
    """The `ScoringBackend` of a loaded transformers model, and its view.

    A ModernBERT of our shape runs on our own transformer, whose last layer computes what is read and nothing else. Any other
    runs on transformers' class. So do models of the next token, which are to agree with lm-eval's `hf` in every digit, and
    models spread over several devices or quantised.
    """
    if readout == NEXT_TOKEN or len({parameter.device for parameter in model.parameters()}) > 1:
        return PretrainedBody(model), None
    try:
        return adopt(model)
    except ValueError:
        return PretrainedBody(model), None


class PretrainedBody(nn.Module):
    """A `ScoringBackend` made of a transformers model: its base model gives the states, the head the predictions."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.base = model.base_model
        self.around = copy(model)  # which shares its parts, but for the base model: the head alone is asked
        self.around._modules = model._modules | {model.base_model_prefix: _StatesAsGiven()}

    def forward(
        self,
        tokens: torch.Tensor,
        document_ids: torch.Tensor,
        position_ids: torch.Tensor,
        view: AttentionSpec | None,
        scored_positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """States, as `ScoringBackend` says, of rows padded on the right; a row is one text, whose positions the model knows."""
        real = document_ids >= 0
        mask = None if bool(real.all()) else real.long()
        options = {"use_cache": False} if getattr(self.base.config, "use_cache", None) is not None else {}
        states = self.base(input_ids=tokens, attention_mask=mask, return_dict=True, **options)[0]
        return states if scored_positions is None else pick(states, scored_positions)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Predictions (N, V) of hidden states (N, H)."""
        return self.around(inputs_embeds=states[None]).logits[0]


class _StatesAsGiven(nn.Module):
    """In the place of a base model: hands over as its last hidden states what it is given as embeddings."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)


class PretrainedTokenizer:
    """A `TokenizerLike` made of any fast tokenizer of a transformers folder; text never produces a special token."""

    def __init__(self, folder: Path, masked: bool) -> None:
        """`masked`: whether its model needs a mask token. Raises ValueError for a slow tokenizer, or no mask token."""
        from transformers import AutoTokenizer

        remedy = "save a fast one into it: AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        if not (folder / "tokenizer.json").is_file():
            raise invalid("tokenizer", str(folder), "holds no tokenizer.json, so no fast tokenizer", remedy)
        try:
            self.pretrained = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
        except Exception as error:  # the library has no error class for a damaged file
            raise invalid("tokenizer", str(folder), f"cannot be read ({first_line(error)})", remedy) from error
        if not self.pretrained.is_fast:
            raise invalid("tokenizer", type(self.pretrained).__name__, "is slow and gives no offsets", remedy)
        self.backend = type(self.pretrained.backend_tokenizer).from_str(self.pretrained.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = True
        self.special = _special_tokens(self.pretrained, folder, masked)
        self.ids = token_ids(self.backend)
        self.vocab_size = int(self.ids[-1]) + 1
        self.hash = hash_text(self.backend.to_str())

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return [item.ids for item in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a text and, for each token, the number of characters up to and including it."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, [end for _, end in encoding.offsets]

    def decode(self, ids: Iterable[int], show_special: bool = False) -> str:
        """The text of token ids."""
        return self.backend.decode(list(ids), skip_special_tokens=not show_special)


def weights_hash(folder: Path) -> str:
    """One hash of a folder's safetensors files. Raises ValueError if there are none."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        problem = "holds only pickled weights, which can run code" if pickled else "holds no weights"
        raise invalid("model", str(folder), problem, "save it with save_pretrained, which writes model.safetensors")
    return hash_text(canonical_json({file.name: hash_file(file) for file in files}))


def load_model(folder: Path, causal: bool) -> Any:
    """The folder's model with its prediction head, in fp32 on the CPU. Raises ValueError where that cannot be."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    auto: Any = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    try:
        model, report = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # the library has no error class for a damaged file
        remedy = "give a folder that AutoModelForMaskedLM or AutoModelForCausalLM of transformers loads"
        raise invalid("model", str(folder), f"cannot be loaded ({first_line(error)})", remedy) from error
    if missing := sorted(report["missing_keys"]):
        problem = f"lacks weights of its prediction model ({', '.join(missing[:3])})"
        raise invalid("model", str(folder), problem, "give one that was trained as a language model")
    return model.eval()


def window_of(model: Any, tokenizer: PretrainedTokenizer) -> int:
    """The longest row a model takes, in tokens."""
    config = model.config
    limits = [tokenizer.pretrained.model_max_length]
    limits += [getattr(config, name) for name in ("max_position_embeddings", "n_positions") if hasattr(config, name)]
    return int(min(limit for limit in limits if limit and limit > 0))


def first_line(error: Exception) -> str:
    """The first sentence of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]


def _special_tokens(pretrained: Any, folder: Path, masked: bool) -> SpecialTokens:
    """Roles by transformers' names. Those that no protocol needs may be missing: EOS serves as BOS and padding, as in GPT-2."""

    def first(*names: str) -> int | None:
        numbers = (getattr(pretrained, f"{name}_token_id", None) for name in names)
        return next((number for number in numbers if number is not None), None)

    bos, eos = first("bos", "cls", "eos", "sep"), first("eos", "sep", "bos", "cls")
    if masked:
        bos, eos = first("cls", "bos"), first("sep", "eos")
    mask = first("mask")
    if masked and mask is None:
        remedy = "add one to the tokenizer, or measure it as a causal model (readout=clm)"
        raise invalid("tokenizer", str(folder), "has no mask token", remedy)
    if bos is None or eos is None:
        raise invalid("tokenizer", str(folder), "has no token to begin and end a text", "add bos_token and eos_token")
    pad, unknown = first("pad"), first("unk")
    return SpecialTokens(
        unknown=ABSENT if unknown is None else unknown,
        bos=bos,
        eos=eos,
        pad=eos if pad is None else pad,
        mask=ABSENT if mask is None else mask,
    )
