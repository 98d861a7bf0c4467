"""The evidence of a certificate on the environments of two runs: code, libraries, device, numerics and placement."""

from collections.abc import Sequence
from typing import Any

from ettin_core.training import environment

PLACEMENT = "placement"

Evidence = dict[str, dict[str, Any]]


def compare_environments(left: Sequence[str] | None, right: Sequence[str] | None, required: bool) -> Evidence:
    """Evidence by group, and by field where a group differs; of more than a few modules one entry with the first names.

    A different placement is reported, and equality not required: it may move rounding, and the certificate says how far.
    """
    if not left or not right:
        return {"sessions": {"left": left, "right": right, "equal": False, "required": required}}
    changes = environment.differences(left, right)
    evidence: Evidence = {}
    for group in environment.GROUPS:
        if group not in changes:
            evidence[group] = {"left": "the same", "right": "the same", "equal": True, "required": required}
            continue
        for name, (left_value, right_value) in _shortened(group, changes[group]).items():
            named = group if name in (environment.ALL, "name") else f"{group}.{name}"
            values = {"left": left_value, "right": right_value, "equal": False}
            evidence[named] = values | {"required": required and group != PLACEMENT}
    return evidence


def placements(evidence: Evidence) -> list[str]:
    """A line for each difference of the placements."""
    return [
        f"{name} {item['left']} against {item['right']}"
        for name, item in evidence.items()
        if name.startswith(f"{PLACEMENT}.") and not item["equal"]
    ]


def _shortened(group: str, fields: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    if group != "code" or len(fields) <= environment.FEW:
        return fields
    names = list(fields)
    rest = len(names) - environment.FEW
    return {environment.ALL: ("other", f"in {', '.join(names[: environment.FEW])} and {rest} modules more")}
