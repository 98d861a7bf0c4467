"""The page: one self-contained HTML file that a reader can open, print or send."""

import base64
from typing import Any

import pandas as pd
from jinja2 import DictLoader, Environment

from analysis import wording
from analysis.figures import ReportFigure
from analysis.numbers import entropy_ratios
from analysis.study_records import StudyRecords, rows_of
from analysis.tables import Table, control, number, verdict

_BASE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
  h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
  th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; }
  th:first-child, td:first-child, tr.section th { text-align: left; }
  thead th { border-bottom: 2px solid #222; } tr.section th { padding-top: .8rem; font-style: italic; font-weight: 500; }
  tbody tr:hover { background: #f4f4f4; }
  .note, figcaption { color: #555; font-size: .85rem; margin: .3rem 0; }
  .verdict { border-left: 4px solid #0072B2; padding: .3rem .8rem; background: #f5f8fa; margin: .5rem 0; }
  .verdict.broken { border-color: #b00; background: #fdf3f3; }
  figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; }
  code { font-size: .85em; }
  {% block style %}{% endblock %}
</style>
</head>
<body>
<h1>{{ name }}</h1>
{% block body %}{% endblock %}
</body>
</html>
"""

_PARTS = """{% macro table(table) %}
<h2 id="{{ table.name }}">{{ table.title }}</h2>
<div class="scroll"><table>
<thead><tr>{% for cell in table.header %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for title, rows in table.sections %}
{% if title %}<tr class="section"><th colspan="{{ table.header|length }}">{{ title }}</th></tr>{% endif %}
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}{% else %}<tr><td>nothing to show</td></tr>{% endfor %}</tbody>
</table></div>
{% for note in table.notes %}<p class="note">{{ note }}</p>{% endfor %}
{% endmacro %}
{% macro figure(figure) %}
<figure id="figure-{{ figure.name }}"><img alt="{{ figure.title }}" src="data:image/png;base64,{{ figure.image }}">
<figcaption><b>{{ figure.title }}.</b> {{ figure.caption }}
Numbers: <a href="{{ figure.name }}.data.csv">{{ figure.name }}.data.csv</a></figcaption></figure>
{% endmacro %}
"""

_TEMPLATE = """{% extends "base" %}{% import "parts" as parts %}{% block body %}
{% if claim %}<p><strong>{{ claim }}</strong></p>{% endif %}
<p>{{ run_count }} complete runs in {{ blocks|length }} group{{ "s" if blocks|length > 1 }}: {{ blocks|join("; ") }}.
Everything here is generated from recorded evidence (sha256 <code>{{ fingerprint[:16] }}</code>).</p>

<h2>Was the comparison controlled?</h2>
{% for certificate in certificates %}
<div class="verdict{{ " broken" if certificate.verdict == "not matched" }}">
<p>{{ spell(certificate) }}</p>
<ul>{% for line in lines_of(certificate) %}<li>{{ line }}</li>{% endfor %}</ul>
</div>
{% else %}{% for line in uncertified %}<p>{{ line }}</p>{% endfor %}{% endfor %}

{% for table in tables %}
{{ parts.table(table) }}
{% if table.name == "comparison" %}{% for sentence in entropy %}<p>{{ sentence }}</p>{% endfor %}{% endif %}
{% endfor %}

<h2>Figures</h2>
{% for figure in figures %}{{ parts.figure(figure) }}{% endfor %}

<h2>What was measured, and how</h2>
<dl>{% for name, version, meaning in protocols %}
<dt><b>{{ name }}</b> (version {{ version }})</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>

<h2>Holes</h2>
{% if holes %}<ul>{% for hole in holes %}<li>{{ hole }}</li>{% endfor %}</ul>{% else %}<p>None.</p>{% endif %}
{% endblock %}"""


def rendered(template: str, **values: Any) -> str:
    """A page: a template that extends "base" and may import "parts" for tables and figures."""
    environment = Environment(
        autoescape=True, trim_blocks=True, loader=DictLoader({"base": _BASE, "parts": _PARTS, "page": template})
    )
    return environment.get_template("page").render(**values)


def embedded(figures: list[ReportFigure], images: dict[str, bytes]) -> list[dict[str, str]]:
    """Pictures as a page needs them, the image within the page."""
    return [
        {
            "name": figure.name,
            "title": figure.title,
            "caption": f"{figure.caption} {figure.note}".rstrip(),
            "image": base64.b64encode(images[figure.name]).decode(),
        }
        for figure in figures
    ]


def page(
    study: StudyRecords,
    cells: pd.DataFrame,
    tables: list[Table],
    figures: list[ReportFigure],
    images: dict[str, bytes],
) -> str:
    """The whole report as HTML: verdicts first, then tables, figures, methods and holes."""
    return rendered(
        _TEMPLATE,
        name=study.name,
        claim=study.claim,
        run_count=len(study.runs),
        blocks=study.blocks,
        fingerprint=study.fingerprint,
        certificates=study.certificates,
        uncertified=control(study),
        spell=verdict,
        lines_of=certificate_lines,
        tables=tables,
        entropy=entropy_sentences(cells),
        figures=embedded(figures, images),
        protocols=_protocols(cells),
        holes=holes(study, cells),
    )


def certificate_lines(certificate: dict[str, Any]) -> list[str]:
    """What a certificate found: allowed differences by the contract's entry, forbidden ones and evidence in full."""
    lines = {}
    for item in certificate["differences"]:
        values = f"{item['left']} / {item['right']}"
        if not item["allowed"]:
            lines[item["field"]] = f"{item['field']}: {values}, which the contract does not allow"
        else:
            shown = f" ({values})" if item["field"] == item["under"] and len(values) < 60 else ""
            lines[item["under"]] = f"{item['under']}{shown} may differ: {item['reason']}"
    equal = [name for name, item in certificate["evidence"].items() if item["equal"]]
    differing = [
        name for name, item in certificate["evidence"].items() if not item["equal"] and not item.get("required")
    ]
    broken = [name for name, item in certificate["evidence"].items() if not item["equal"] and item.get("required")]
    ends = [
        f"{words}: {', '.join(names)}"
        for words, names in (("equal", equal), ("differing, as reported", differing), ("NOT EQUAL", broken))
        if names
    ]
    return [*lines.values(), *ends]


def entropy_sentences(cells: pd.DataFrame) -> list[str]:
    """How far each causal member is from the best that any model could do, where that is known."""
    return [
        f"The {row.member} needs {number(row.value)} bits per token where the text's entropy is {number(row.reference)}: "
        f"{number(row.ratio)} times what a perfect model would need ({row.task}, {row.block})."
        for row in rows_of(entropy_ratios(cells))
    ]


def holes(study: StudyRecords, cells: pd.DataFrame) -> list[str]:
    """Every missing run, and every missing measurement with its reason."""
    lines = [f"Run {name} is in the study but not complete." for name in study.missing]
    for (member, hole), group in cells[cells["hole"].notna()].groupby(["member", "hole"]):
        names = [
            f"{wording.protocol_name(protocol)} ({task}, {wording.metric_name(metric)})"
            for protocol, task, metric in zip(group["protocol"], group["task"], group["metric"], strict=True)
        ]
        lines.append(f"{member}: {hole}: {'; '.join(dict.fromkeys(names))}")
    return lines


def _protocols(cells: pd.DataFrame) -> list[tuple[str, int, str]]:
    versions = cells.drop_duplicates("protocol").set_index("protocol")["version"]
    return [
        (wording.protocol_name(str(protocol)), int(version), wording.protocol_meaning(str(protocol)))
        for protocol, version in versions.items()
    ]
