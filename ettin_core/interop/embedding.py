"""How an exported folder is pooled into a vector, in the files that Sentence Transformers reads.

Without them the library guesses: the mean for a masked model, the last token for a causal one. Members of a pair would then be
compared under different poolings. Versions 2 to 6 of the library read these files.
"""

from pathlib import Path

from ettin_core.foundation.errors import unknown
from ettin_core.foundation.storage import write_json

MODES = {
    "mean": "pooling_mode_mean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "cls": "pooling_mode_cls_token",
}
POOLING_FOLDER = "1_Pooling"


def check_pooling(pooling: str) -> None:
    """Raises ValueError if the pooling is unknown."""
    if pooling not in MODES:
        raise unknown("pooling", pooling, "is unknown", MODES)


def write_pooling(folder: Path, pooling: str, width: int, longest: int) -> None:
    """Add the files by which Sentence Transformers loads the folder: states of `width`, pooled, not normalised."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": POOLING_FOLDER, "type": "sentence_transformers.models.Pooling"},
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    modes = {mode: name == pooling for name, mode in MODES.items()}
    write_json(folder / POOLING_FOLDER / "config.json", {"word_embedding_dimension": width, **modes})
