"""What can move a number of a run and is not in its configuration: code, libraries, device, numerics and placement.

Every session of a run records its environment as one text. Resuming compares the last session with the present one. A
certificate compares the sessions of two runs, and a complete run is compared with today's code.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ettin_core.foundation import source_code
from ettin_core.foundation.provenance import library_versions
from ettin_core.foundation.storage import canonical_json
from ettin_core.training.config import PlacementConfig, RunConfig

if TYPE_CHECKING:
    import torch

    from ettin_core.foundation.distributed import ProcessGroup

GROUPS = ("code", "libraries", "device", "numerics", "placement")
ENTRY = "ettin_core.training.loop"
MERGING = "ettin_core.checkpoints.merging"
PACKAGES = ("checkpoints", "data", "foundation", "model", "objectives", "optim", "training")
OBSERVERS = (  # what these report never reaches a weight
    "foundation.progress_bars",
    "foundation.errors",
    "foundation.provenance",
    "foundation.source_code",
    "foundation.terminal",
    "training.environment",
    "training.expected_rate",
    "training.hardware",
    "training.memory",
    "training.numerics",
    "training.preemption",
    "training.trackers",
    "training.monitor",
)
LIBRARIES = ("torch", "numpy", "tokenizers")
PLACED = (
    "attention",
    "compile",
    "micro_rows",
    "parallel",
    "recompute",
    "threads",
)  # of the placement: may move rounding
ALL = "all"
SHARED = ("code", "libraries")
UNKNOWN = "not recorded"
MISSING = {
    "code": "absent",
    "numerics": "not set",
}  # the value of an absent field, in groups that are recorded field by field
FEW = 5
SHOWN = 12  # characters of a value that is a long hash

Session = dict[str, dict[str, Any]]
Differences = dict[str, dict[str, tuple[str, str]]]  # by group and field: left and right


def training_code(run: RunConfig) -> source_code.Hashes:
    """The modules that train or merge a run with their hashes: of objectives those that the run uses."""
    entries = [ENTRY, *run.objective.modules(run.direction)] + ([MERGING] if run.merge is not None else [])
    return source_code.hashes(entries, PACKAGES, OBSERVERS)


def describe(run: RunConfig, placement: PlacementConfig, group: "ProcessGroup", device: "torch.device") -> str:
    """The environment of this session, the same text on every process; all processes must call it."""
    from ettin_core.training.numerics import device_name, numerics  # with torch, which comparing does without

    libraries, versions = (*LIBRARIES, *(("peft",) if run.adapter else ())), library_versions("peft")
    placed = {name: getattr(placement, name) for name in PLACED} | {"processes": group.world_size}
    if group.world_size == 1:
        placed["parallel"] = "alone"
    if placement.micro_rows is None and placement.activation_gib is not None:
        placed["activation_gib"] = placement.activation_gib
    return canonical_json(
        {
            "code": training_code(run),
            "libraries": {name: versions.get(name, UNKNOWN) for name in libraries},
            "device": {"name": _of_all(group, device_name(device))},
            "numerics": {name: _of_all(group, value) for name, value in numerics(device).items()},
            "placement": placed,
        }
    )


def _of_all(group: "ProcessGroup", value: str) -> str:
    """The value of this process, or those of all processes where they differ."""
    return " + ".join(sorted(set(group.gather(value))))


def read(text: str) -> Session:
    """A session by group. Earlier versions recorded one hash of all code, and no numerics."""
    session = json.loads(text)
    if "placement" in session:
        return session
    placed = {name: session.get(name, UNKNOWN) for name in (*PLACED, "processes")}
    return {
        "code": {ALL: session["code"]},
        "libraries": {name: session["libraries"].get(name, UNKNOWN) for name in LIBRARIES},
        "device": {"name": session["device"]},
        "numerics": {},
        "placement": placed | ({"parallel": "alone"} if placed["processes"] == 1 else {}),
    }


def differences(left: Sequence[str], right: Sequence[str]) -> Differences:
    """What differs between two lists of sessions, by group and field; groups that agree are left out.

    A field has the values of the sessions in their order, as in "sdpa, then flex". Of code and libraries only fields that
    both sides have are compared: members use different objectives, and a new module shows in the one that imports it.
    """
    left_sessions, right_sessions = ([read(text) for text in side] for side in (left, right))
    return {group: fields for group in GROUPS if (fields := _of_group(group, left_sessions, right_sessions))}


def _of_group(group: str, left: list[Session], right: list[Session]) -> dict[str, tuple[str, str]]:
    left_fields, right_fields = _by_field(group, left), _by_field(group, right)
    if _in_detail(left_fields) != _in_detail(right_fields):
        return {ALL: (_at_large(left_fields), _at_large(right_fields))}
    names = left_fields.keys() & right_fields.keys() if group in SHARED else left_fields.keys() | right_fields.keys()
    missing = MISSING.get(group, UNKNOWN)
    pairs = {name: (left_fields.get(name, missing), right_fields.get(name, missing)) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _by_field(group: str, sessions: list[Session]) -> dict[str, str]:
    """The values of each field of a group, in the order of the sessions, repetitions left out."""
    fields = {}
    for name in {name for session in sessions for name in session[group]}:
        values = [str(session[group].get(name, MISSING.get(group, UNKNOWN))) for session in sessions]
        short = [value[:SHOWN] if group == "code" else value for value in values]
        fields[name] = ", then ".join(
            value for place, value in enumerate(short) if not place or value != short[place - 1]
        )
    return fields


def _in_detail(fields: dict[str, str]) -> bool:
    return bool(fields) and ALL not in fields


def _at_large(fields: dict[str, str]) -> str:
    return "recorded field by field" if _in_detail(fields) else fields.get(ALL, UNKNOWN)


def sentences(changes: Differences, left: str, right: str) -> list[str]:
    """A line for each field that differs; of more than a few modules one line with the first names."""
    lines = []
    for group, fields in changes.items():
        if group == "code" and len(fields) > FEW:
            names = sorted(fields)
            lines.append(f"code of {len(names)} modules: {', '.join(names[:FEW])} and {len(names) - FEW} more")
            continue
        for name, (left_value, right_value) in fields.items():
            field = group if name in (ALL, "name") else f"{group}.{name}"
            lines.append(f"{field} {left} {left_value}, {right} {right_value}".replace("  ", " "))
    return lines


def changed_since(run: RunConfig, summary: dict[str, Any]) -> list[str] | None:
    """The modules that changed since a run was completed; None where its sessions do not record them."""
    last = read(summary["sessions"][-1])["code"]
    return None if ALL in last else source_code.changed(last, training_code(run))
