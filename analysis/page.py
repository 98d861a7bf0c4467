"""The page: one self-contained HTML file that a reader can open, print or send. It leads with the answer."""

import pandas as pd

from analysis import control, wording
from analysis.answer import Answer
from analysis.figures import ReportFigure
from analysis.html import embedded, rendered
from analysis.numbers import entropy_ratios
from analysis.sources import Sources
from analysis.study_records import StudyRecords, rows_of
from analysis.tables import Table, number

_TEMPLATE = """{% extends "base" %}{% import "parts" as parts %}{% block body %}
{% if claim %}<p class="claim">{{ claim }}</p>{% endif %}
<div class="lead"><div>
{% if answers %}<dl class="verdicts">{% for answer in answers %}
<dt><a href="#{{ answer.table }}">{{ answer.question }}</a></dt>
{% for verdict in answer.verdicts %}<dd{% if not verdict.decides %} class="open"{% endif %}>{{ verdict.words }}</dd>{% endfor %}
{% endfor %}</dl>
{% else %}<p>This kind of report gives no verdict. Its tables and figures have the numbers.</p>{% endif %}
<p class="note{{ " broken" if broken }}">Control: {{ control }}{% if certificates %} <a href="#control">Details</a>{% endif %}</p>
{% for line in missing %}<p class="note broken">{{ line }}.</p>{% endfor %}
<nav>{% for table in tables %}<a href="#{{ table.name }}">{{ table.title }}</a> {% endfor %}
<a href="#figures">Figures</a> <a href="#control">Control</a> <a href="#protocols">Protocols</a>
<a href="#missing">Missing measurements</a> <a href="#records">Runs and records</a></nav>
</div>
{% for figure in figures[:1] %}{{ parts.figure(figure) }}{% endfor %}
</div>

{% for table in tables %}
{{ parts.table(table) }}
{% if table.name == "comparison" %}{% for sentence in entropy %}<p>{{ sentence }}</p>{% endfor %}{% endif %}
{% endfor %}

<h2 id="figures">Figures</h2>
{% for figure in figures[1:] %}{{ parts.figure(figure) }}{% else %}<p>There are no more.</p>{% endfor %}

<h2 id="control">Was the comparison controlled?</h2>
<p{% if broken %} class="broken"{% endif %}>{{ control }}</p>
{% if certificates %}<details class="control"{{ " open" if broken }}>
<summary>Every certificate ({{ certificates|length }})</summary>
<p>Each box compares two runs. Its contract names the settings that may differ, and why.
“Matched except” means that nothing else differs.</p>
{% for certificate in certificates %}
<div class="verdict{{ " broken" if certificate.broken }}">
<p>{{ certificate.title }}</p>
<ul>{% for line in certificate.lines %}<li>{{ line }}</li>{% endfor %}</ul>
</div>
{% endfor %}</details>{% endif %}

<h2 id="protocols">What was measured, and how</h2>
<dl>{% for name, version, meaning in protocols %}
<dt><b>{{ name }}</b> (version {{ version }})</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>

<h2 id="missing">Missing measurements</h2>
{% if holes %}<ul>{% for hole in holes %}<li>{{ hole }}</li>{% endfor %}</ul>{% else %}<p>None.</p>{% endif %}

<h2 id="records">Runs and records</h2>
<p>{{ run_count }} complete run{{ "s" if run_count != 1 }} (size on corpus: {{ blocks|join("; ") }}). The page is generated from
their records (sha256 <code>{{ fingerprint[:16] }}</code>). Paths are within
{% if sources.packed %}<code>runs/</code> of <a href="{{ sources.packed }}">{{ sources.packed }}</a>
{%- else %}the folder of runs, <code>{{ sources.place }}</code> from here{% endif %}. A number in a table shows its paths where
the pointer rests on it, and links to their list below.</p>
{% for group in sources.groups() %}<details><summary>{{ group.title }} ({{ group.files|length }})</summary>
<ul id="{{ group.anchor }}">{% for path in group.files %}<li><a href="{{ sources.address(path) }}">{{ path }}</a></li>
{% endfor %}</ul></details>
{% endfor %}
{% endblock %}"""


def page(
    study: StudyRecords,
    cells: pd.DataFrame,
    answers: list[Answer],
    tables: list[Table],
    figures: list[ReportFigure],
    images: dict[str, bytes],
    sources: Sources,
) -> str:
    """The whole report as HTML: answers and the first figure, then tables, figures, control, protocols, holes and records."""
    return rendered(
        _TEMPLATE,
        sources,
        name=study.name,
        claim=study.claim,
        answers=answers,
        control=control.in_words(study),
        broken=any(certificate["verdict"] == control.BROKEN for certificate in study.certificates),
        missing=control.missing_lines(study),
        certificates=[
            {
                "title": control.verdict(certificate),
                "lines": control.certificate_lines(certificate),
                "broken": certificate["verdict"] == control.BROKEN,
            }
            for certificate in study.certificates
        ],
        run_count=len(study.runs),
        blocks=study.blocks,
        fingerprint=study.fingerprint,
        tables=tables,
        entropy=entropy_sentences(cells),
        figures=embedded(figures, images),
        protocols=_protocols(cells),
        holes=holes(study, cells),
    )


def entropy_sentences(cells: pd.DataFrame) -> list[str]:
    """How far each causal member is from the best that any model could do, where that is known."""
    return [
        f"The {row.member} needs {number(row.value)} bits per token where the text's entropy is {number(row.reference)}: "
        f"{number(row.ratio)} times what a perfect model would need ({row.task}, {row.block})."
        for row in rows_of(entropy_ratios(cells))
    ]


def holes(study: StudyRecords, cells: pd.DataFrame) -> list[str]:
    """The lines of every missing run, and of every missing measurement with its reason."""
    lines = [f"{line}." for line in control.missing_lines(study)]
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
