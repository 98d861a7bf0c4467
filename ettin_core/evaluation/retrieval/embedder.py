"""Checkpoint and pooling -> SentenceTransformer: Transformer, Pooling, Normalize, for every member alike.

A literal special token in a text ([MASK], [SEP]) is letters, also in the saved folder. One rule for the ends of a text: it
begins as the checkpoint's own tokenizer begins it, and it ends with one EOS, also where it was cut. Our encoders' tokenizers
append EOS and our decoders' do not; without the rule, `lasttoken` would pool EOS of one member and the last piece of a word
of the other. Rows are padded on the right.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ettin_core.checkpoints.native import hash_tensors
from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed
from ettin_core.foundation.errors import invalid
from ettin_core.interop.weights import tensor_names

POOLINGS = ("mean", "lasttoken", "weightedmean")


def build_embedder(checkpoint: CheckpointToEmbed, pooling: str, max_length: int | None, device: str) -> Any:
    """A SentenceTransformer with the checkpoint's weights.

    `max_length` in tokens, both ends included (None: the model's own). Raises ValueError for a tokenizer without EOS, and for
    weights that do not fill the model.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    with quiet():
        transformer = Transformer(str(checkpoint.folder))
    _check_filled(checkpoint, transformer.auto_model)
    transformer.max_seq_length = max_length or checkpoint.longest or transformer.max_seq_length
    read_letters(transformer.tokenizer)
    end_with_eos(transformer.tokenizer, checkpoint.run)
    width = transformer.get_embedding_dimension()
    return SentenceTransformer(modules=[transformer, Pooling(width, pooling), Normalize()], device=device)


def open_embedder(folder: Path, name: str, device: str) -> Any:
    """A saved SentenceTransformer under the name and the hash of its weights, by which MTEB tells models apart."""
    from sentence_transformers import SentenceTransformer

    with quiet():
        model = SentenceTransformer(str(folder), device=device)
    read_letters(model.tokenizer)
    model.model_card_data.model_name = f"ettin/{name}"
    model.model_card_data.base_model_revision = hash_weights(model)
    return model.eval()


def hash_weights(model: Any) -> str:
    """A hash of a model's tensors and their names."""
    return hash_tensors({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()})


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


def _check_filled(checkpoint: CheckpointToEmbed, backbone: Any) -> None:
    """Refuse a folder that leaves a tensor of the backbone at random; a prefix such as `model.` does not matter."""
    stored = tensor_names(checkpoint.folder)
    endings = {name.split(".", skip)[-1] for name in stored for skip in range(name.count(".") + 1)}
    if missing := sorted(set(backbone.state_dict()) - endings):
        problem = f"lacks {len(missing)} tensors of its model ({missing[0]})"
        raise invalid("models", checkpoint.run, problem, "give config.json and weights of the same model")
