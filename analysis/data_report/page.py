"""The page of a data report: what the corpus holds, what a recipe draws of it, and samples of what was left out."""

from typing import Any

from analysis.data_report.record import DataRecord
from analysis.figures import ReportFigure
from analysis.html import embedded, rendered
from analysis.tables import Table

_TEMPLATE = """{% extends "base" %}{% import "parts" as parts %}
{% block style %}
  .sample { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
  .sample { background: #f6f6f6; padding: .4rem .7rem; margin: .3rem 0; }
  th:last-child, td:last-child { text-align: left; }
  dt { font-weight: 600; } dd { margin: 0 0 .4rem 0; overflow-wrap: anywhere; }
{% endblock %}
{% block body %}
<p>{{ opening }} The page is generated from one record (sha256 <code>{{ fingerprint[:16] }}</code>).</p>
{% if problems %}
<div class="verdict broken"><p>Training with this recipe on this corpus would stop with an error:</p>
<ul>{% for line in problems %}<li>{{ line }}</li>{% endfor %}</ul></div>
{% else %}
<div class="verdict"><p>Every phase can draw what it asks for: no source is read more than {{ max_epochs }} times
in all phases together (recipe.max_epochs).</p></div>
{% endif %}
{% for table in tables %}
{{ parts.table(table) }}
{% for figure in figures[table.name] %}{{ parts.figure(figure) }}{% endfor %}
{% if table.name == "draws" %}{% for sentence in sentences %}<p>{{ sentence }}</p>{% endfor %}{% endif %}
{% endfor %}

{% if samples %}
<h2 id="samples">Samples of what was left out</h2>
{% for source, reasons in samples.items() %}
<h3>{{ source }}</h3>
{% for reason, texts in reasons.items() %}
<p>{{ reason }}</p>
{% for sample in texts %}<div class="sample"><code>{{ sample.id }}</code>
{{ sample.text }}{{ "…" if sample.text|length >= 300 }}</div>{% endfor %}
{% endfor %}{% endfor %}
{% endif %}

<h2>About this report</h2>
<dl>{% for name, value in facts.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
<h3>How each source was read</h3>
<dl>{% for name, value in reading.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
{% endblock %}"""
ABOUT = {"mixture": "draws", "passes": "draws", "utilisation": "draws", "lengths": "sources", "left_out": "left_out"}


def page(
    record: DataRecord,
    tables: list[Table],
    report_figures: list[ReportFigure],
    images: dict[str, bytes],
    sentences: list[str],
) -> str:
    """The whole report as HTML: problems first, then tables with their figures, samples and origins."""
    figures: dict[str, list[dict[str, str]]] = {table.name: [] for table in tables}
    for figure in embedded(report_figures, images):
        figures[ABOUT[figure["name"]]].append(figure)
    return rendered(
        _TEMPLATE,
        name=f"Data report: {record.content['corpus']['name']}",
        opening=opening(record),
        fingerprint=record.fingerprint,
        problems=record.problems,
        max_epochs=f"{record.max_epochs:g}",
        tables=tables,
        figures=figures,
        sentences=sentences,
        samples={name: source["samples"] for name, source in record.content["sources"].items() if source["samples"]},
        facts=_facts(record),
        reading={name: _reading(source) for name, source in record.content["sources"].items()},
    )


def opening(record: DataRecord) -> str:
    """The report in two sentences."""
    train = record.sources[record.sources["split"] == "train"]
    count, phases = train["source"].nunique(), record.phases
    run = f" (as trained in {record.content['run']})" if record.content["run"] else ""
    return (
        f"{count} source{'s' if count > 1 else ''} with {train['documents'].sum():,} training documents of "
        f"{train['tokens'].sum():,} tokens. The recipe{run} has {sum(phase['places'] for phase in phases):,} token positions in "
        f"{len(phases)} phase{'s' if len(phases) > 1 else ''}."
    )


def _facts(record: DataRecord) -> dict[str, str]:
    corpus = record.content["corpus"]
    return {
        "Corpus": corpus["name"],
        "Fingerprint of its tokens": corpus["fingerprint"],
        "Tokenizer": f"{corpus['vocab_size']:,} ids, sha256 {corpus['tokenizer_hash']}",
        "How documents become ids": f"{corpus['policy']} (hash {corpus['policy_hash']})",
        "Held out": _held_out(record.content.get("held_out")),
        "Run": record.content["run"] or "none: a recipe that was not trained here",
        "Seed of the order": str(record.content["seed"]),
    }


def _held_out(counts: dict[str, int] | None) -> str:
    if not counts:
        return "not counted: an older preparation, which left copies of held-out documents in train"
    both = counts["texts_in_both"]
    return (
        f"{counts['documents']:,} documents, of which train holds no copy; {both:,} texts in validation and test both"
    )


def _reading(source: dict[str, Any]) -> str:
    curation = source["curation"]
    steps = [f"rules {', '.join(curation['rules'])}"] if curation["rules"] else []
    steps += (
        [f"language {curation['language']} at {curation['language_probability']:g}"] if curation["language"] else []
    )
    steps += ["exact duplicates"] if curation["exact_duplicates"] else []
    steps += [f"near duplicates at {curation['near_duplicates']:g}"] if curation["near_duplicates"] else []
    curated = f"curation: {'; '.join(steps)}" if steps else "no curation"
    return f"{source['kind']}; {curated}; content {source['identity'][:16]}"
