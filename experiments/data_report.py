"""python -m experiments.data_report data=...: what a corpus holds and what a recipe samples of it, as a record and a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.documents import SPLITS
from ettin_core.data.loader import Loader
from ettin_core.data.preparation.progress_bar import prepared
from ettin_core.data.shards import TokenStream
from ettin_core.foundation.errors import UserError
from ettin_core.foundation.storage import write_json
from ettin_core.planning.run_plan import open_corpus, open_run
from ettin_core.planning.sizes import SizeConfig
from ettin_core.planning.source_counts import count_sources
from ettin_core.records.schema import SCHEMA_VERSION
from ettin_core.training.phases import Phase, RecipeConfig, plan
from experiments.cli.entry import entry
from experiments.cli.report import analyse

COUNTS = ("documents", "tokens", "bytes")
RECORD = "data_report.json"


@dataclass(frozen=True)
class DataReportRequest:
    """conf/data_report.yaml."""

    size: SizeConfig
    recipe: RecipeConfig
    data: DataConfig
    run: str | None
    seed: int
    out: str
    corpora_dir: str


@entry("data_report", DataReportRequest)
def main(request: DataReportRequest) -> None:
    """Write the record, then the report by a command of analysis/, which reads records only."""
    file = Path(request.out) / RECORD
    write_json(file, record(request))
    analyse("data_report", f"the record {file} is complete, the report is not", record=file, out=file.parent)


def record(request: DataReportRequest) -> dict[str, Any]:
    """The record of a corpus and a recipe, or of a run. Raises ValueError for input or a recipe that makes no plan."""
    if request.run is not None:
        folder, run = open_run(request.run)
        corpus, recipe, phases = open_corpus(run, Path(request.corpora_dir)), run.recipe, run.phases
        name, seed = folder.name, run.seeds.order
    else:
        corpus = prepared(request.data, request.corpora_dir)
        recipe, phases, name, seed = request.recipe, plan(request.recipe, peak=1.0), None, request.seed
    return {
        "kind": "data_report",
        "schema": SCHEMA_VERSION,
        "run": name,
        "seed": seed,
        "max_epochs": recipe.max_epochs,
        "corpus": _corpus(corpus),
        "sources": {source: _source(corpus, source) for source in corpus.sources},
        "held_out": corpus.manifest.get("held_out", {}),
        "not_read": corpus.manifest.get("not_read", {}),
        "phases": [_phase(phase, corpus, seed) for phase in phases],
    }


def _corpus(corpus: Corpus) -> dict[str, Any]:
    manifest = corpus.manifest
    keys = ("kind", "fingerprint", "tokenizer_hash", "vocab_size", "policy", "policy_hash")
    return {"name": corpus.name} | {key: manifest[key] for key in keys}


def _source(corpus: Corpus, source: str) -> dict[str, Any]:
    splits = {}
    for split in SPLITS:
        entry_of = corpus.manifest["sources"][source][split]
        counts = {key: entry_of[key] for key in COUNTS}
        ratio = counts["bytes"] / counts["tokens"] if counts["tokens"] else None
        splits[split] = {**counts, "bytes_per_token": ratio, "lengths": entry_of["lengths"]}
    return corpus.manifest["reading"][source] | {"splits": splits}


def _phase(phase: Phase, corpus: Corpus, seed: int) -> dict[str, Any]:
    """What a phase samples of each source; `refused` is the error message if it cannot (None: it can)."""
    rows = phase.rows
    facts = {
        "name": phase.name,
        "context": phase.context,
        "packing": phase.packing,
        "steps": phase.steps,
        "batch_rows": phase.batch_rows,
        "rows": rows,
        "places": rows * phase.context,
        "mixture": phase.mixture,
    }
    try:
        loader = phase.loader(corpus, seed)
    except UserError as error:
        return facts | {"refused": str(error), "utilisation": None, "sources": {}}
    sources = _drawn(loader, phase, corpus)
    tokens = sum(source["tokens"] for source in sources.values())
    return facts | {"refused": None, "utilisation": tokens / facts["places"], "sources": sources}


def _drawn(loader: Loader, phase: Phase, corpus: Corpus) -> dict[str, Any]:
    drawn = count_sources(loader, phase.mixture, phase.rows)
    total = sum(count.tokens for count in drawn.values())
    sources = {}
    for name, count in drawn.items():
        longer, pieces = cuts(corpus.stream(name, "train"), phase.context, phase.packing)
        sources[name] = {
            "share_asked": count.asked,
            "share_drawn": count.tokens / total,
            "rows": count.rows,
            "tokens": round(count.tokens),
            "passes": count.passes,
            "passes_asked": count.passes_asked,
            "utilisation": loader.utilisation[name],
            "documents_longer": longer,
            "pieces": pieces,
        }
    return sources


def cuts(stream: TokenStream, context: int, packing: str) -> tuple[int, int]:
    """How many documents of a stream are longer than the context, and into how many pieces a packing cuts all of them."""
    longer = pieces = 0
    for shard, begin in enumerate(stream.edges[:-1].tolist()):
        edges = stream.starts(shard) + begin
        starts, ends = edges[:-1], edges[1:]
        longer += int((ends - starts > context).sum())
        if packing == "stream":  # a row ends at every multiple of the context
            pieces += int(((ends - 1) // context - starts // context + 1).sum())
        else:
            pieces += int((-(-(ends - starts) // context)).sum())
    return longer, pieces


if __name__ == "__main__":
    main()
