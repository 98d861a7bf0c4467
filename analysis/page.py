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

PROSE = 44  # letters of a cell that is wrapped
_BASE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
  p, li, figcaption, .verdict { max-width: 60rem; }
  h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
  th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; vertical-align: top; }
  th:first-child, td:first-child, th.prose, td.prose, tr.section th { text-align: left; }
  td.prose { white-space: normal; min-width: 14rem; }
  th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
  thead th { border-bottom: 2px solid #222; white-space: normal; vertical-align: bottom; }
  tr.section th { padding-top: .8rem; font-style: italic; font-weight: 500; }
  tbody tr:hover, tbody tr:hover td:first-child { background: #f4f4f4; }
  nav a { margin-right: 1rem; white-space: nowrap; }
  .note, figcaption { color: #555; font-size: .85rem; margin: .3rem 0; }
  .verdict { border-left: 4px solid #0072B2; padding: .3rem .8rem; background: #f5f8fa; margin: .5rem 0; }
  .verdict.broken { border-color: #b00; background: #fdf3f3; }
  figure { margin: 1.5rem 0; } img { max-width: min(100%, 60rem); height: auto; }
  code { font-size: .85em; overflow-wrap: anywhere; }
  @media (max-width: 40rem) { td:first-child { white-space: normal; min-width: 8rem; } }
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
{% set kinds = table|column_classes %}
<thead><tr>{% for cell in table.header %}<th class="{{ kinds[loop.index0] }}">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for title, rows in table.sections %}
{% if title %}<tr class="section"><th colspan="{{ table.header|length }}">{{ title }}</th></tr>{% endif %}
{% for row in rows %}<tr>{% for cell in row %}<td class="{{ kinds[loop.index0] }}">{{ cell }}</td>{% endfor %}</tr>
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
<p>{{ run_count }} complete run{{ "s" if run_count != 1 }} (size on corpus: {{ blocks|join("; ") }}).
The page is generated from the records of these runs (sha256 <code>{{ fingerprint[:16] }}</code>).</p>
<nav>{% for table in tables %}<a href="#{{ table.name }}">{{ table.title }}</a> {% endfor %}
<a href="#figures">Figures</a> <a href="#protocols">Protocols</a> <a href="#missing">Missing measurements</a></nav>

<h2>Was the comparison controlled?</h2>
{% if certificates %}<p>Each box compares two runs. Its contract names the settings that may differ, and why.
“Matched except” means that nothing else differs.</p>{% endif %}
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

<h2 id="figures">Figures</h2>
{% for figure in figures %}{{ parts.figure(figure) }}{% endfor %}

<h2 id="protocols">What was measured, and how</h2>
<dl>{% for name, version, meaning in protocols %}
<dt><b>{{ name }}</b> (version {{ version }})</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>

<h2 id="missing">Missing measurements</h2>
{% if holes %}<ul>{% for hole in holes %}<li>{{ hole }}</li>{% endfor %}</ul>{% else %}<p>None.</p>{% endif %}
{% endblock %}"""


def rendered(template: str, **values: Any) -> str:
    """A page: a template that extends "base" and may import "parts" for tables and figures."""
    environment = Environment(
        autoescape=True, trim_blocks=True, loader=DictLoader({"base": _BASE, "parts": _PARTS, "page": template})
    )
    environment.filters["column_classes"] = column_classes
    return environment.get_template("page").render(**values)


def column_classes(table: Table) -> list[str]:
    """By column "prose" where cells hold sentences, which are wrapped and aligned to the left; else empty."""
    rows = [row for _, rows in table.sections for row in rows]
    is_prose = [place > 0 and any(len(row[place]) > PROSE for row in rows) for place in range(len(table.header))]
    return ["prose" if prose else "" for prose in is_prose]


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
    """The whole report as HTML: verdicts first, then tables, figures, protocols and what is missing."""
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
    """The lines of a certificate: allowed differences by the contract's entry, forbidden ones, and what else was compared."""
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
        for words, names in (
            ("equal", equal),
            ("differ, which is reported and allowed", differing),
            ("NOT EQUAL", broken),
        )
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
    """The lines of every missing run, and of every missing measurement with its reason."""
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
