"""What models of every kind share: the checkpoint's transformer, one rule for the ends of a text, and hashes of weights.

A literal special token in a text ([MASK], [SEP]) is letters, also in the saved folder. One rule for the ends of a text: it
begins as the checkpoint's own tokenizer begins it, and it ends with one EOS, also where it was cut. Our encoders' tokenizers
append EOS and our decoders' do not; without the rule, `lasttoken` would pool EOS of one member and the last piece of a word
of the other. Rows are padded on the right, unless a causal model's logits are read.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.foundation.errors import invalid
from ettin_core.interop.weights import tensor_names


def open_backbone(checkpoint: CheckpointToEmbed, max_length: int | None, **options: Any) -> Any:
    """The checkpoint as Sentence Transformers' first module, in fp32; `options` are those of its Transformer.

    `max_length` in tokens, both ends included (None: the model's own). Raises ValueError for a tokenizer without EOS, and for
    weights that do not fill the model.
    """
    from sentence_transformers.sentence_transformer.modules import Transformer

    with quiet():
        transformer = Transformer(str(checkpoint.folder), model_kwargs={"dtype": torch.float32}, **options)
    check_filled(checkpoint, transformer.auto_model)
    set_text_ends(transformer, checkpoint, max_length)
    if transformer.transformer_task == "text-generation":
        transformer.tokenizer.padding_side = "left"  # the library requires it of a causal model that it reads logits of
    return transformer


def set_text_ends(module: Any, checkpoint: CheckpointToEmbed, max_length: int | None) -> None:
    """Give a module with a tokenizer the length and the ends of a text that are the same for every member."""
    module.max_seq_length = max_length or checkpoint.longest or module.max_seq_length
    read_letters(module.tokenizer)
    end_with_eos(module.tokenizer, checkpoint.run)


def read_letters(tokenizer: Any) -> None:
    """Make a tokenizer, and what is saved of it, read a literal special token in a text as letters."""
    tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = True


def end_with_eos(tokenizer: Any, name: str) -> None:
    """Make a tokenizer end every text with one EOS. Raises ValueError when it has no such token."""
    from tokenizers.processors import TemplateProcessing

    eos = tokenizer.eos_token or tokenizer.sep_token
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if eos is None or backend is None:
        remedy = "add eos_token to tokenizer_config.json and a tokenizer.json"
        raise invalid("tokenizer", name, "has no EOS, or is not a fast tokenizer", remedy)
    first = tokenizer("a")["input_ids"][0]
    begins = [tokenizer.convert_ids_to_tokens(first)] if first in tokenizer.all_special_ids else []
    marks = [(token, tokenizer.convert_tokens_to_ids(token)) for token in dict.fromkeys([*begins, eos])]
    backend.post_processor = TemplateProcessing(
        single=[*begins, "$A", eos], pair=[*begins, "$A", eos, "$B", eos], special_tokens=marks
    )
    tokenizer.padding_side = tokenizer.truncation_side = "right"


def hash_weights(model: Any) -> str:
    """A hash of a model's tensors and their names."""
    return hash_tensors({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()})


def check_filled(checkpoint: CheckpointToEmbed, model: Any) -> None:
    """Raises ValueError if a folder leaves a tensor of the model at random; a prefix such as `model.` does not matter."""
    stored = tensor_names(checkpoint.folder)
    endings = {name.split(".", skip)[-1] for name in stored for skip in range(name.count(".") + 1)}
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    if missing := sorted(set(model.state_dict()) - endings - tied):
        problem = f"lacks {len(missing)} tensors of its model ({missing[0]})"
        raise invalid("models", checkpoint.run, problem, "give config.json and weights of the same model")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """New weights (a projection, a classifier) are drawn from this seed; the caller's random state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own bars, which hide ours, and their reports: a backbone needs no prediction head."""
    import datasets
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # mteb and sentence-transformers, about each other
            yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
        datasets.enable_progress_bars()
