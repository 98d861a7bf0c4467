"""Training configuration: every key of a run with every kind of invalid value."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from hydra import compose

from ettin_core.requests.compose import to_plain
from ettin_core.requests.train import TrainRequest
from experiments.campaign.cases import EITHER, Case, Input
from experiments.campaign.place import TINY, Place

UP = "../../evil"
WRONG: dict[type, tuple[str, ...]] = {
    int: ("four", "1.5", "nan", "-1", "1e30", "[1]", "true"),
    float: ("four", "nan", "inf", "-1", "[1]", "true"),
    str: ("3", "[a]", "{a:1}", UP),
    bool: ("2", "maybe", "[true]"),
    tuple: ("3", "text", "{a:1}", "[nan]"),
    dict: ("3", "text", "[1]", "{a:nan}"),
}
# Text fields that are not paths to which a run writes (any path is the user's decision).
FREE = {
    "path",
    "files",
    "text_field",
    "id_field",
    "separator",
    "subset",
    "revision",
    "licence",
    "runs_dir",
    "corpora_dir",
}
# Fields that nothing in this run reads, and numbers for which any value is valid.
FINE = {"size.tokens=-1", "size.tokens=1e30", "size.warmup_share=-1", "size.batch_warmup_share=-1"}
ANY_NUMBER = {"batch_warmup_stages", "micro_rows", "activation_gib", "log_every", "every_steps", "keep_last", "gpus"}


def cases(place: Place) -> list[Case]:
    """A case for each key and value, and for each null."""
    values = to_plain(compose("train", ["member=decoder", *TINY]))
    base = Input("experiments.train", (), prepare=place.copy("corpora"))
    result = []
    for key, hint, optional in keys(TrainRequest, values):
        texts = WRONG.get(get_origin(hint) or hint, ("{a:nan}",))
        for text in (*texts, "null"):
            override, name = f"{key}={text}", key.rpartition(".")[2]
            if text == UP and name in FREE:
                continue
            fine = override in FINE or (text == "1e30" and name in ANY_NUMBER)
            expect = EITHER if fine or (text == "null" and optional) else base.expect
            arguments = ("member=decoder", *TINY, override)
            names = (name, key.split(".")[0])
            result.append(Case(override, Input(base.command, arguments, names, expect, base.prepare)))
    return result


def keys(kind: type, values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """The keys of a request: path, type, and whether it may be null."""
    for name, hint in get_type_hints(kind).items():
        if name in values:
            yield from _keys(hint, values[name], f"{path}{name}")


def _keys(hint: Any, value: Any, path: str) -> Iterator[tuple[str, Any, bool]]:
    optional = type(None) in get_args(hint)
    hint = next((item for item in get_args(hint) if item is not type(None)), hint) if optional else hint
    if is_dataclass(hint) and isinstance(value, dict):
        yield from keys(hint, value, f"{path}.")  # type: ignore[arg-type]
    elif get_origin(hint) is dict and value and is_dataclass(get_args(hint)[1]):
        for name, item in value.items():
            yield from _keys(get_args(hint)[1], item, f"{path}.{name}")
    else:
        yield path, hint, optional
