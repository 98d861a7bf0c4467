"""How far the runs of a study are comparable: what their certificates say, and what is missing of the study."""

from collections import Counter
from typing import Any

from analysis.study_records import SWEEP, StudyRecords

BROKEN = "not matched"
UNCERTIFIED = "No certificate: nothing proves that these runs differ only where they should."


def verdict(certificate: dict[str, Any]) -> str:
    """One line of a certificate: the pair, the verdict and what its sides differ in, as the contract names it."""
    fields = []
    for item in certificate["differences"]:
        if item["allowed"]:
            fields.append(str(item["under"]))
        else:
            fields.append(f"{item['field']} ({item['left']} / {item['right']}; NOT ALLOWED)")
    for name, item in certificate["evidence"].items():
        if _breaks(item):
            fields.append(f"{name} ({item['left']} / {item['right']}; NOT EQUAL)")
    named = f": {', '.join(dict.fromkeys(fields))}" if fields else ""
    if "deviation" in certificate["evidence"]:
        named += f" (another placement; deviation: {certificate['evidence']['deviation']['left']})"
    return f"{certificate['pair']}: {certificate['verdict']}{named} [{certificate['left']} | {certificate['right']}]"


def verdicts(certificates: list[dict[str, Any]]) -> list[str]:
    """The verdicts in a line each, comparisons of the same verdict together; one that broke its contract has its own line."""
    if not certificates:
        return [UNCERTIFIED]
    lines = [verdict(certificate) for certificate in certificates]
    kept = [
        line if certificate["verdict"] == BROKEN else line.rpartition(" [")[0]
        for certificate, line in zip(certificates, lines, strict=True)
    ]
    counts = Counter(kept)
    return [line + (f" ({count} comparisons)" if count > 1 else "") for line, count in counts.items()]


def control(study: StudyRecords) -> list[str]:
    """What says how far the runs are comparable: certificates, or what the runs of a sweep differ in."""
    if not study.certificates and study.analysis["kind"] == SWEEP and study.claim:
        return [study.claim]
    return verdicts(study.certificates)


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
    broken = [name for name, item in certificate["evidence"].items() if _breaks(item)]
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


def in_words(study: StudyRecords) -> str:
    """The control of a whole study in a sentence or two: how many pairs match, and in what they differ."""
    certificates = study.certificates
    if not certificates:
        return " ".join(control(study))
    broken = [certificate for certificate in certificates if certificate["verdict"] == BROKEN]
    fields = [str(item["under"]) for item in _differences(certificates) if item["allowed"]]
    allowed = f"they differ only in {', '.join(dict.fromkeys(fields))}" if fields else "they differ in nothing"
    count = f"{len(certificates)} {'pair of runs' if len(certificates) == 1 else 'pairs of runs'}"
    if not broken:
        return f"{count} compared, matched in full: {allowed}, as the contract allows."
    wrong = [str(item["field"]) for item in _differences(broken) if not item["allowed"]]
    wrong += [name for certificate in broken for name, item in certificate["evidence"].items() if _breaks(item)]
    return f"NOT MATCHED: {len(broken)} of {count}, which also differ in {', '.join(dict.fromkeys(wrong))}."


def missing_lines(study: StudyRecords) -> list[str]:
    """A line for each run, or record of a run, that the study lists and the folder lacks."""
    return [
        f"Missing record: {record} of {run}" if record else f"Missing run: {run}"
        for run, _, record in (name.partition(": ") for name in study.missing)
    ]


def _differences(certificates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for certificate in certificates for item in certificate["differences"]]


def _breaks(item: dict[str, Any]) -> bool:
    """Whether a piece of evidence had to be equal and is not."""
    return bool(item.get("required")) and not item["equal"]
