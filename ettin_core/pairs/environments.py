"""What a certificate says of the environments two runs were trained in: code, libraries, device, numerics; and placement."""

from collections.abc import Sequence
from typing import Any

from ettin_core.training import environment

PLACEMENT = "placement"

Evidence = dict[str, dict[str, Any]]


def compare_environments(left: Sequence[str] | None, right: Sequence[str] | None, required: bool) -> Evidence:
    """Evidence by group, and by field where a group differs; of more than a few modules one entry with the first names.

    A placement that differs is told and not required: it may move rounding, and the certificate says how far.
    """
    if not left or not right:
        return {"sessions": {"left": left, "right": right, "equal": False, "required": required}}
    found = environment.differences(left, right)
    evidence: Evidence = {}
    for group in environment.GROUPS:
        if group not in found:
            evidence[group] = {"left": "the same", "right": "the same", "equal": True, "required": required}
            continue
        for name, (one, other) in _shortened(group, found[group]).items():
            named = group if name in (environment.ALL, "name") else f"{group}.{name}"
            values = {"left": one, "right": other, "equal": False}
            evidence[named] = values | {"required": required and group != PLACEMENT}
    return evidence


def placements(evidence: Evidence) -> list[str]:
    """In what the placement of the runs differs, in words."""
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
