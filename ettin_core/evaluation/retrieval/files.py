"""What retrieval needs beside JSON lines: its packages, and tables of judgements, with mistakes by file and line."""

import math
from importlib import import_module
from pathlib import Path

from ettin_core.foundation.errors import invalid, with_extra

PACKAGES = ("sentence_transformers", "mteb", "datasets")
JUDGEMENT = "write query-id, corpus-id and a whole number, separated by tabs, below a header"


def need_packages() -> None:
    """Raise ValueError where the optional packages of this package are not installed."""
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError as error:
            raise invalid("package", name, "is not installed", with_extra("embedding")) from error


def judgements(path: Path) -> dict[str, dict[str, int]]:
    """Relevance of documents by query, from a table in BEIR's form: a header, then query, document and score by tabs.

    Raises ValueError, naming file and line, for a table without a header, a line that is not a judgement, one that comes twice,
    and a table without any.
    """
    scores: dict[str, dict[str, int]] = {}
    headed = False
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        place, cells = f"{path}:{number}", line.split("\t")
        score = _whole(cells[2]) if len(cells) == 3 and all(cells) else None
        if not headed:
            if score is not None:
                problem = "is a judgement where the header belongs"
                raise invalid(
                    "row", place, problem, "begin the file with query-id, corpus-id and score, separated by tabs"
                )
            if len(cells) != 3:
                raise invalid("row", place, "is not a header", JUDGEMENT)
            headed = True
            continue
        if score is None:
            raise invalid("row", place, "is not a judgement", JUDGEMENT)
        query, document, _ = cells
        if document in scores.setdefault(query, {}):
            raise invalid("row", place, f"judges {document!r} for {query!r} a second time", "keep one of the two")
        scores[query][document] = score
    if not scores:
        raise invalid("file", str(path), "holds no judgements", "add some, or leave the split out")
    return scores


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise invalid("file", str(path), "is missing", "add it to the folder of evaluation sets (eval_data)")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return [line.removesuffix("\n") for line in stream]
    except UnicodeDecodeError as error:
        raise invalid("file", str(path), f"is not UTF-8 ({error.reason})", "re-encode it") from error


def _whole(cell: str) -> int | None:
    """A whole number, also when it is written as 1.0; None for anything else."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None
