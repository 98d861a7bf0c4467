"""Text and Parquet that cannot be read, or not as expected, given to the preparation and the preview."""

import gzip
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from experiments.campaign.cases import ACCEPTED, EITHER, REFUSED, Case, Input
from experiments.campaign.place import Place

WORDS = "The old cat sat on the mat and looked at the moon over the quiet town."
ROWS = [{"text": f"{WORDS} Document {number} of many, {number * number}.", "id": str(number)} for number in range(60)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TEXT = "\n\n".join(row["text"] for row in ROWS).encode()
COMMON = ("data=text", "data.path=in", "data.vocab_size=320")


def compressed(kind: str, content: bytes) -> bytes:
    """gzip or zstd."""
    if kind == "gz":
        return gzip.compress(content)
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def jsonl(*rows: Any) -> bytes:
    """The good rows, and more."""
    return LINES + "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


BAD_LINES: dict[str, bytes] = {
    "empty": b"", "blank": b"\n \n\n", "an array": json.dumps(ROWS).encode(), "one document": json.dumps(ROWS, indent=1).encode(),
    "nul tail": LINES + bytes(512), "utf-16": LINES.decode().encode("utf-16"), "latin-1": LINES + b'{"text": "caf\xe9"}\n',
    "cut": LINES[:-30], "deep": jsonl("[" * 100_000 + "]" * 100_000), "a number line": jsonl(7), "a null line": jsonl("null"),
    "a list line": jsonl(["text"]), "a text line": jsonl('"text"'), "text a list": jsonl({"text": ["a", "b"]}),
    "text a number": jsonl({"text": 7}), "text null": jsonl({"text": None}), "text a mapping": jsonl({"text": {"a": 1}}),
    "no text": jsonl({"body": "b"}), "chat": jsonl({"messages": [{"role": "user", "content": "hi"}]}),
    "csv": b"text,id\na,1\nb,2\n",
    "a long number": jsonl('{"text": ' + "9" * 6000 + "}"), "a lone surrogate": jsonl('{"text": "\\ud800 and more"}'),
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "single quotes": jsonl("{'text': 'a'}"), "a comment": jsonl("// a comment"), "trailing comma": jsonl('{"text": "a",}'),
}  # fmt: skip
ALLOWED = {"text null", "a lone surrogate", "cut"}  # left out and counted, or refused
BAD_TEXT: dict[str, bytes] = {
    "empty": b"", "blank": b" \n\t\n", "nul": TEXT + bytes(100), "utf-16": TEXT.decode().encode("utf-16"),
    "latin-1": TEXT + b" caf\xe9", "binary": os.urandom(4000), "cut letter": TEXT + "ü".encode()[:1],
}  # fmt: skip


def cases(place: Place) -> list[Case]:
    """Every bad content in each container, every bad table, option and path that is not a file."""
    result = []
    for title, content in BAD_LINES.items():
        expect = EITHER if title in ALLOWED else REFUSED
        for kind in ("", "gz", "zst"):
            name = f"a.jsonl{'.' if kind else ''}{kind}"
            prepare = partial(put, name, compressed(kind, content) if kind else content)
            result.append(
                Case(f"{name}: {title}", Input("experiments.prepare", COMMON, (name, "data."), expect, prepare))
            )
    for title, content in BAD_TEXT.items():
        for command in ("prepare", "preview"):
            prepare = partial(put, "a.txt", content)
            expect = ACCEPTED if command == "preview" else REFUSED  # a preview shows what is left out, and why
            trial = Input(f"experiments.{command}", COMMON, ("a.txt", "data."), expect, prepare)
            result.append(Case(f"{command} a.txt: {title}", trial))
    for title, damage in PACKED.items():
        for kind in ("gz", "zst"):
            prepare = partial(put, f"a.jsonl.{kind}", damage(compressed(kind, LINES)))
            result.append(Case(f"{kind}: {title}", Input("experiments.prepare", COMMON, ("a.jsonl",), prepare=prepare)))
    for title, columns in TABLES.items():
        prepare = partial(parquet, columns)
        result.append(
            Case(f"parquet: {title}", Input("experiments.prepare", COMMON, ("a.parquet", "data."), prepare=prepare))
        )
    for title, option in OPTIONS.items():
        prepare = partial(put, "a.jsonl", LINES)
        names = (option.partition("=")[0], "data.")
        result.append(Case(f"option: {title}", Input("experiments.prepare", (*COMMON, option), names, prepare=prepare)))
    never = Input(
        "experiments.prepare", (*COMMON, "data.separator=@@@"), ("separator",), prepare=partial(put, "a.txt", TEXT)
    )
    result.append(Case("option: a separator that never occurs", never))
    for title, make in THINGS.items():
        result.append(Case(f"no file: {title}", Input("experiments.prepare", COMMON, ("in", "data."), prepare=make)))
    return result


def put(name: str, content: bytes, folder: Path) -> None:
    """A file in the folder `in`."""
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_bytes(content)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "no header": lambda content: b"xx" + content[2:],
    "flipped": lambda content: content[:60] + bytes([content[60] ^ 255]) + content[61:],
    "garbage after": lambda content: content + b"garbage after the end",
    "not packed": lambda content: LINES,
    "empty": lambda content: b"",
    "wrong kind": lambda content: b"BZh91AY&SY" + content,
}
TEXTS = [row["text"] for row in ROWS]
TABLES: dict[str, dict[str, Any] | bytes] = {
    "no text column": {"body": TEXTS}, "numbers": {"text": list(range(60))}, "no rows": {"text": []},
    "all null": {"text": [None] * 60}, "lists": {"text": [["a"]] * 60}, "structures": {"text": [{"a": "b"}] * 60},
    "not Parquet": LINES, "only magic": b"PAR1PAR1", "empty": b"", "cut": b"PAR1" + bytes(2000), "dates": {"text": [1.5] * 60},
    "bytes that are not text": {"text": [b"\xff\xfe"] * 60},
}  # fmt: skip
OPTIONS = {
    "a field that is not there": "data.text_field=body",
    "a column that is not there": "data.at_least={q:10}", "a column of letters": "data.at_least={id:nan}",
    "no file of the pattern": "data.files=*.nothing", "no documents": "data.documents=0", "minus one": "data.documents=-1",
    "a small vocabulary": "data.vocab_size=10", "a kind": "data.kind=magic", "on_bad": "data.on_bad=ignore",
    "no tokenizer": "data.tokenizer=nowhere", "a tokenizer that is text": "data.tokenizer=in", "name": "data.name=../up",
    "tokens without tokenizer": "data.token_field=ids", "weights": "data.mixtures.decay={nobody:1}",
    "negative weights": "data.mixtures.pretrain={text:-1}", "a source": "data.sources={a:{path:nowhere}}",
    "a unknown key": "+data.sources={a:{pth:in}}", "sample": "data.tokenizer_sample_mb=0",
    "a small bound": "data.max_document_mb=0",
    "curation": "data.curation.rules=[magic]",
}  # fmt: skip


def parquet(columns: dict[str, Any] | bytes, folder: Path) -> None:
    """A Parquet file of columns, or of these bytes."""
    if isinstance(columns, bytes):
        put("a.parquet", columns, folder)
        return
    import pyarrow
    import pyarrow.parquet

    put("a.parquet", b"", folder)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "in" / "a.parquet")


def _in(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "in").mkdir()
        make(folder / "in")

    return prepare


THINGS: dict[str, Callable[[Path], None]] = {
    "nothing": lambda folder: None,
    "an empty folder": _in(lambda place: None),
    "a folder called a.jsonl": _in(lambda place: (place / "a.jsonl").mkdir()),
    "a link to nowhere": _in(lambda place: (place / "a.jsonl").symlink_to("nowhere")),
    "a link to itself": _in(lambda place: (place / "a.jsonl").symlink_to("a.jsonl")),
    "a named pipe": _in(lambda place: os.mkfifo(place / "a.jsonl")),
    "a file of no kind": _in(lambda place: (place / "a.exe").write_bytes(LINES)),
    "hidden files only": _in(lambda place: (place / ".a.jsonl").write_bytes(LINES)),
}
