"""The model card of an exported folder: what the model is, how it is read, from which text, and what was measured.

Everything in it comes from ettin.json, where programs find the same facts.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from ettin_core.interop.huggingface_config import ARCHITECTURE_OF
from ettin_core.records.readout import NOT_READ, fills_masks

PIPELINE = {("bidirectional", "mlm"): "fill-mask", ("causal", "clm"): "text-generation"}
LEAST_TRANSFORMERS = {"bidirectional": "4.48.0", "causal": "4.54.0"}  # the first with the class
AUTO = {"bidirectional": "AutoModelForMaskedLM", "causal": "AutoModelForCausalLM"}
READ = {
    "mlm": "A token is predicted at the mask in its place.",
    "clm": "A token is predicted at the token before it.",
    "mntp": "A token is masked and predicted at the position *before* the mask (masked next-token prediction).",
}
MISREAD_MASK = (
    "Programs that read a masked model at the mask (the fill-mask pipeline, minicons, masked back-ends of evaluation pipelines) "
    "misread this one without an error: shift what they read by one position, or measure it with readout=mntp."
)
MISREAD_CAUSAL = (
    "Programs that read a causal model at the token before (text generation, lm-eval's hf) misread this one without an error: it "
    "was not trained to predict the next token. The programs of the Ettin suite read ettin.json, which says how it is read."
)
# Identifiers of licences on the hub, by which text states them.
KNOWN = frozenset(
    {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "odc-by", "odbl", "pddl", "unlicense", "gfdl", "mpl-2.0"}
    | {f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")}
    | {f"cc-by-sa-{version}" for version in ("3.0", "4.0")}
    | {"cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"}
)


def card(facts: dict[str, Any], direction: str, parameters: int, longest: int, pooling: str) -> str:
    """README.md with front matter. `facts` is ettin.json, of which any key may be missing."""
    head = yaml.safe_dump(front_matter(facts, direction), sort_keys=False, allow_unicode=True)
    name = facts.get("run", "model")
    least, auto = LEAST_TRANSFORMERS[direction], AUTO[direction]
    architecture = ARCHITECTURE_OF[direction]
    parts = [
        f"---\n{head}---\n\n# {name}",
        f"`{architecture}` of {parameters:,} parameters for rows of up to {longest:,} tokens, trained by the Ettin suite, "
        "which trains matched encoders and decoders on identical data.",
        "## How it is read\n\n" + " ".join(how_it_is_read(facts, direction)),
        f"## Loading\n\nNo custom code; transformers {least} or later.\n\n```python\nfrom transformers import {auto}, "
        f'AutoTokenizer\n\nmodel = {auto}.from_pretrained("<this folder>")\n'
        'tokenizer = AutoTokenizer.from_pretrained("<this folder>")\n```\n\n'
        f'`SentenceTransformer("<this folder>")` pools by `{pooling}`, the default for every member.',
        "## Origin\n\n" + _table(("", ""), _origin(facts)),
    ]
    if facts.get("data"):
        rows = [(item["source"], f"{item['tokens']:,}", item["licence"] or "not stated") for item in facts["data"]]
        parts.append("## Data\n\n" + _table(("source", "tokens", "licence"), rows))
    if facts.get("measured"):
        scores = [
            (item["protocol"], item["task"], item["metric"], f"{item['value']:.4f}") for item in facts["measured"]
        ]
        parts.append("## Measured\n\n" + _table(("protocol", "task", "metric", "value"), scores))
    return "\n\n".join(parts) + "\n"


def front_matter(facts: dict[str, Any], direction: str) -> dict[str, Any]:
    """The metadata that the hub reads."""
    pipeline = PIPELINE.get((direction, _stated(facts)), "feature-extraction")
    values: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": pipeline,
        "tags": ["ettin", ARCHITECTURE_OF[direction].removesuffix("ForMaskedLM").removesuffix("ForCausalLM").lower()],
        **_licence([item["licence"] for item in facts.get("data") or ()]),
    }
    values["tags"] += [tag for tag in ("sentence-transformers", "feature-extraction") if tag != pipeline]
    if facts.get("parent"):
        values["base_model"] = facts["parent"]["run"]
        values["base_model_relation"] = "finetune"
    if facts.get("merge"):
        values["tags"] += ["merge"]
        values["base_model"] = list(dict.fromkeys(parent["run"] for parent in facts["merge"]["parents"]))
        values["base_model_relation"] = "merge"
    if facts.get("datasets"):
        values["datasets"] = facts["datasets"]
    measured = facts.get("measured") or []
    if measured:
        values["metrics"] = sorted({item["metric"] for item in measured})
        values["model-index"] = [{"name": facts.get("run", "model"), "results": [_result(item) for item in measured]}]
    return values


def _result(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": {"type": "text-classification" if item["metric"] == "accuracy" else "other"},
        "dataset": {"name": item["task"], "type": item["task"]},
        "metrics": [{"type": item["metric"], "name": f"{item['metric']} ({item['protocol']})", "value": item["value"]}],
    }


def _licence(stated: list[str | None]) -> dict[str, str]:
    """The licence, if all sources state the same and the hub knows it; otherwise a link to the card's table."""
    known = {None if text is None else text.strip().lower().replace(" ", "-") for text in stated}
    if len(known) == 1 and (only := next(iter(known))) in KNOWN:
        return {"license": str(only)}
    if known - {None}:
        return {"license": "other", "license_name": "by-source", "license_link": "README.md#data"}
    return {"license": "unknown"}


def how_it_is_read(facts: dict[str, Any], direction: str) -> list[str]:
    """One sentence on how predictions are read, and a second where the usual programs for the class read otherwise."""
    name = _stated(facts)
    if name.startswith("ahead"):
        reading = f"A token is predicted at the token {name.removeprefix('ahead')} places before it."
    elif name == NOT_READ:
        reading = "Its objective declares no way to read its predictions, so it is not measured."
    else:
        reading = READ.get(name, f"It was trained for {name}." if name else "Its objective is not stated.")
    if direction == "causal" and (fills_masks(name) or name.startswith("ahead")):
        return [reading, MISREAD_CAUSAL]
    return [reading, MISREAD_MASK] if name == "mntp" else [reading]


def _stated(facts: dict[str, Any]) -> str:
    """The name of the readout, or of the objective in a record that is older."""
    return str(facts.get("readout") or facts.get("objective") or "")


def _origin(facts: dict[str, Any]) -> list[tuple[str, str]]:
    names = (
        "member",
        "size",
        "seed",
        "checkpoint",
        "phase",
        "tokens",
        "weights",
        "corpus",
        "fingerprint",
        "code",
        "commit",
    )
    rows = [(name, f"`{facts[name]}`") for name in names if facts.get(name) is not None]
    if facts.get("parent"):
        parent = facts["parent"]
        rows.append(("parent", f"`{parent['run']}`, checkpoint `{parent['checkpoint']}`"))
    if facts.get("merge"):
        merge = facts["merge"]
        rows.append(("merge", f"`{merge['method']}`"))
        parents = zip(merge["parents"], merge["weights"], strict=True)
        rows += [
            ("parent", f"`{parent['run']}`, checkpoint `{parent['checkpoint']}`, weight {weight:g}")
            for parent, weight in parents
        ]
    libraries = facts.get("libraries") or {}
    return [*rows, *((name, version) for name, version in sorted(libraries.items()))]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines: list[Sequence[str]] = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
