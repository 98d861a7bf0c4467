"""Files from strangers: bombs, paths that lead out, hostile headers and configurations, given to what reads them."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from experiments.campaign.cases import Case, Input
from experiments.campaign.place import SUITE, Place
from experiments.campaign.processes import Environment
from experiments.campaign.texts import COMMON, LINES, compressed, put

TASK = ("run=latest", *SUITE, "suite.eval_data=sets", "suite.tasks=[mine]")
READER = ("experiments.evaluate", ("model=hf", "corpus=latest", *SUITE))
GIB = 2**30
SMALL = Environment(memory=24 * GIB)  # of addresses: torch alone maps several GiB
BOMB = 700 * 2**20  # bytes in one line when unpacked


def cases(place: Place) -> list[Case]:
    """Bombs of text, shards with a wrong index, models and tokenizers that are hostile."""
    result = []
    bomb = b'{"text": "' + b"a" * BOMB + b'"}\n'
    for kind in ("gz", "zst"):
        content = gzip.compress(bomb, 1) if kind == "gz" else compressed(kind, bomb)
        arguments = (*COMMON, "data.max_document_mb=1")
        trial = Input("experiments.prepare", arguments, ("a.jsonl",), prepare=partial(put, f"a.jsonl.{kind}", content))
        result.append(Case(f"a bomb of {kind}", trial))
    for title, index in INDEXES.items():
        names = ("index.json", "shard", "in")
        trial = Input("experiments.prepare", ("data=mds", *COMMON[1:]), names, prepare=partial(mds, index))
        result.append(Case(f"mds: {title}", trial))
    out = Input("experiments.prepare", COMMON, ("a.jsonl", "in"), prepare=_link_out)
    result.append(Case("a link out of the folder", out))
    for title, (file, change) in MODEL.items():
        trial = Input(*READER, ("hf", "model", file), prepare=partial(hostile, place, file, change), environment=SMALL)
        result.append(Case(f"a model: {title}", trial))
    for title, text in SUITES.items():
        trial = Input("experiments.evaluate", TASK, ("mine", "sets"), prepare=partial(own_set, place, text))
        result.append(Case(f"a set: {title}", trial))
    return result


def _shard(**changes: Any) -> dict[str, Any]:
    names = {"column_names": ["id", "text"], "column_encodings": ["str", "str"], "column_sizes": [None, None]}
    facts: dict[str, Any] = {
        "format": "mds",
        "compression": None,
        "hashes": [],
        "samples": 2,
        "size_limit": 67108864,
        "version": 2,
        "zip_data": None,
    }
    return facts | names | {"raw_data": {"basename": "shard.00000.mds", "bytes": 40, "hashes": {}}} | changes


def _raw(**changes: Any) -> dict[str, Any]:
    return {"raw_data": {"basename": "shard.00000.mds", "bytes": 40, "hashes": {}} | changes}


INDEXES: dict[str, Any] = {
    "a path up": {"shards": [_shard(**_raw(basename="../secret"))], "version": 2},
    "an absolute path": {"shards": [_shard(**_raw(basename="/etc/passwd"))], "version": 2},
    "no shards": {"version": 2}, "shards a number": {"shards": 3, "version": 2},
    "a shard a number": {"shards": [3], "version": 2},
    "a list": [], "null": None, "negative samples": {"shards": [_shard(samples=-1)], "version": 2},
    "samples beyond": {"shards": [_shard(samples=10**9)], "version": 2},
    "samples text": {"shards": [_shard(samples="a")], "version": 2},
    "pickled columns": {"shards": [_shard(column_encodings=["pkl", "pkl"])], "version": 2},
    "an unknown format": {"shards": [_shard(format="tar")], "version": 2},
    "negative bytes": {"shards": [_shard(**_raw(bytes=-4))], "version": 2},
    "no columns": {"shards": [_shard(column_names=[])], "version": 2},
    "other compression": {"shards": [_shard(compression="rar", zip_data={"basename": "shard.00000.mds.rar"})], "version": 2},
}  # fmt: skip


def mds(index: Any, folder: Path) -> None:
    """A folder of MDS with an index, a file that is not a shard, and a secret outside."""
    put("index.json", json.dumps(index).encode(), folder)
    put("shard.00000.mds", b"\xff" * 40, folder)
    (folder / "secret").write_bytes(LINES)


def _link_out(folder: Path) -> None:
    put("b.jsonl", LINES, folder)
    (folder / "secret.jsonl").write_bytes(LINES)
    (folder / "in" / "a.jsonl").symlink_to(folder / "secret.jsonl")


def header(text: bytes, length: int | None = None) -> Callable[[Path], object]:
    """A safetensors file of such a header."""
    return lambda file: file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text)


def setting(**changes: Any) -> Callable[[Path], object]:
    """A JSON file with other values."""
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def content(text: str | bytes) -> Callable[[Path], object]:
    """Another content."""
    return lambda file: file.write_bytes(text.encode() if isinstance(text, str) else text)


_WEIGHT = b'{"model.embeddings.tok_embeddings.weight": {"dtype": "F32", "shape": %s, "data_offsets": %s}}'
MODEL: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a header longer than the file": ("model.safetensors", header(b"{}", 2**62)),
    "a header that is not JSON": ("model.safetensors", header(b"{{{{")),
    "a header that is a list": ("model.safetensors", header(b"[]")),
    "a deep header": ("model.safetensors", header(b"[" * 100_000)),
    "a tensor beyond the file": ("model.safetensors", header(_WEIGHT % (b"[10,10]", b"[0,400000]"))),
    "a tensor of 2^60": ("model.safetensors", header(_WEIGHT % (b"[1152921504606846976]", b"[0,4]"))),
    "a negative shape": ("model.safetensors", header(_WEIGHT % (b"[-1]", b"[0,4]"))),
    "no weights at all": ("model.safetensors", header(b"{}")),
    "a pickle": ("model.safetensors", content(b"\x80\x04cos\nsystem\n(S'true'\ntR.")),
    "empty weights": ("model.safetensors", content(b"")),
    "ten million layers": ("config.json", setting(num_hidden_layers=10**7)),
    "a width of 2^40": ("config.json", setting(hidden_size=2**40)),
    "minus one layer": ("config.json", setting(num_hidden_layers=-1)),
    "layers as text": ("config.json", setting(num_hidden_layers="four")),
    "remote code": ("config.json", setting(auto_map={"AutoConfig": "evil.Config"}, model_type="evil")),
    "an unknown model": ("config.json", setting(model_type="evil")),
    "a configuration that is a list": ("config.json", content("[]")),
    "a deep configuration": ("config.json", content("[" * 100_000 + "]" * 100_000)),
    "a tokenizer that is a list": ("tokenizer.json", content("[]")),
    "an empty tokenizer": ("tokenizer.json", content("")),
    "a tokenizer without a model": ("tokenizer.json", content('{"version": "1.0"}')),
}  # fmt: skip


def hostile(place: Place, name: str, change: Callable[[Path], object], folder: Path) -> None:
    """The export with one file changed, and the corpus under a name that the command knows."""
    place.copy("hf")(folder)
    (corpus,) = [path.parent for path in (place.path / "corpora").glob("*/manifest.json")]
    shutil.copytree(corpus, folder / "corpora" / "latest")
    change(folder / "hf" / name)


SUITES: dict[str, str] = {
    "a tag of Python": "a: !!python/object/apply:os.system ['true']\n", "a list": "[]\n", "a number": "7\n", "binary": "\0\0\0",
    "deep": "[" * 5000, "a bomb of names": "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b]\n", "empty": "",
}  # fmt: skip


def own_set(place: Place, text: str, folder: Path) -> None:
    """A user's task file with this text, none of which is valid."""
    place.copy("corpora", "runs")(folder)
    (folder / "sets" / "tasks").mkdir(parents=True)
    for name in ("sets/mine.yaml", "sets/tasks/mine.yaml"):
        (folder / name).write_text(text)
