"""The audit compares resolved configurations before training, the certificate the evidence of two complete runs."""

from dataclasses import dataclass, replace
from typing import Any

from ettin_core.foundation.strict_config import differences
from ettin_core.pairs.contract import Contract, comparable
from ettin_core.pairs.environments import compare_environments, placements
from ettin_core.pairs.rounding import LIMIT, measure
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig

MATCHED, MATCHED_EXCEPT, NOT_MATCHED = "matched", "matched except", "not matched"
TO_ROUNDING = "matched to rounding"  # the placement differs: how many processes, which backend, compiled or not
SESSIONS = "sessions"
UNMEASURED = (
    "not measured, because the members differ: audit two runs of the same configuration under the two placements"
)


@dataclass(frozen=True)
class Certificate:
    """The verdict on two runs under a contract, with every difference and every piece of evidence."""

    pair: str
    left: str
    right: str
    verdict: str
    differences: list[dict[str, Any]]
    evidence: dict[str, dict[str, Any]]

    @property
    def violations(self) -> list[str]:
        """A line for each difference that breaks the contract."""
        broken = [
            f"{item['field']}: {item['left']!r} against {item['right']!r}"
            for item in self.differences
            if not item["allowed"]
        ]
        broken += [
            f"{name}: {item['left']!r} against {item['right']!r}"
            for name, item in self.evidence.items()
            if item["required"] and not item["equal"]
        ]
        return broken

    def sentence(self) -> str:
        """The verdict in one line."""
        allowed = ", ".join(dict.fromkeys(item["under"] for item in self.differences if item["allowed"]))
        text = f"{self.pair}: {self.left} and {self.right} are {self.verdict}"
        if self.verdict == NOT_MATCHED:
            return f"{text}: {'; '.join(self.violations)}"
        if self.verdict != TO_ROUNDING:
            return f"{text} {allowed}" if allowed else text
        placed, deviation = "; ".join(placements(self.evidence)), self.evidence["deviation"]["left"]
        return f"{text}{f' except {allowed}' if allowed else ''} ({placed}; deviation: {deviation})"


def audit(contract: Contract, left: RunConfig, right: RunConfig) -> Certificate:
    """Compare two resolved configurations; needs no training and no GPU."""
    return _certificate(contract, left, right, {})


def certify(
    contract: Contract, left: RunConfig, right: RunConfig, left_folder: RunFolder, right_folder: RunFolder
) -> Certificate:
    """Compare two complete runs: configurations, summaries and the data hash at every logged step.

    For a conversion `left` is the parent. Raises ValueError when a run is not complete.
    """
    left_summary, right_summary = left_folder.summary(), right_folder.summary()
    evidence = {
        name: _compare(left_summary.get(name), right_summary.get(name), required=name in contract.equal)
        for name in (*contract.equal, *contract.reported)
        if name != SESSIONS
    }
    for name, tolerance in contract.within.items():
        evidence[name] = _compare_numbers(left_summary.get(name), right_summary.get(name), tolerance)
    from_parent = contract.initial_weights == "from_parent"
    start = _start(right, left_folder, left_summary) if from_parent else left_summary["initial_weights"]
    required = contract.initial_weights != "reported"
    evidence["initial_weights"] = _compare(start, right_summary["initial_weights"], required=required)
    if "data_hash" in contract.equal:
        evidence["data_order"] = _compare_order(left_folder, right_folder)
    if SESSIONS in (*contract.equal, *contract.reported):
        sessions = left_summary.get(SESSIONS), right_summary.get(SESSIONS)
        evidence |= compare_environments(*sessions, required=SESSIONS in contract.equal)
    certificate = replace(
        _certificate(contract, left, right, evidence), left=left_folder.name, right=right_folder.name
    )  # fields that came later change run.name
    return _with_deviation(certificate, left_folder, right_folder) if placements(evidence) else certificate


def _with_deviation(certificate: Certificate, left: RunFolder, right: RunFolder) -> Certificate:
    """The certificate with the deviation of the placements: measured between runs of one configuration, else unmeasured."""
    deviation = None if certificate.differences else measure(left, right)
    near = deviation is None or deviation.loss <= LIMIT
    description = UNMEASURED if deviation is None else str(deviation)
    none = deviation is not None and deviation.is_none
    entry = {"left": description, "right": description, "equal": none, "required": not near}
    verdict = (
        certificate.verdict if none or certificate.verdict == NOT_MATCHED else TO_ROUNDING if near else NOT_MATCHED
    )
    return replace(certificate, verdict=verdict, evidence=certificate.evidence | {"deviation": entry})


def _start(child: RunConfig, parent_folder: RunFolder, parent: dict[str, Any]) -> str:
    """The hash of the parent's weights at the child's start: the end of the parent, or the checkpoint that it names."""
    if child.parent is None or child.parent.checkpoint == parent["final_checkpoint"]:
        return str(parent["final_weights"])
    from ettin_core.checkpoints import native  # with torch

    return native.hash_tensors(native.load(parent_folder.checkpoints / child.parent.checkpoint, parent["run"]).model)


def _compare_order(left: RunFolder, right: RunFolder) -> dict[str, Any]:
    """Compare the rolling data hashes at every step that both runs logged; names the first step that differs."""
    left_hashes = {row.step: row.data_hash for row in left.training()}
    right_hashes = {row.step: row.data_hash for row in right.training()}
    shared = sorted(set(left_hashes) & set(right_hashes))
    first = next((step for step in shared if left_hashes[step] != right_hashes[step]), None)
    equal = bool(shared) and first is None
    detail = f"{len(shared)} steps equal" if equal else f"differ from step {first}" if shared else "no shared step"
    return {"left": detail, "right": detail, "equal": equal, "required": True}


def _compare(left: Any, right: Any, required: bool) -> dict[str, Any]:
    return {"left": left, "right": right, "equal": left is not None and left == right, "required": required}


def _compare_numbers(left: float | None, right: float | None, tolerance: float) -> dict[str, Any]:
    near = left is not None and right is not None and abs(left - right) <= tolerance * max(abs(left), abs(right))
    return {"left": left, "right": right, "equal": near, "required": True, "within": tolerance}


def _certificate(
    contract: Contract, left: RunConfig, right: RunConfig, evidence: dict[str, dict[str, Any]]
) -> Certificate:
    entries = []
    for path, (left_value, right_value) in differences(comparable(left), comparable(right)).items():
        under = contract.allows(path)
        reason = contract.may_differ[under] if under is not None else None
        allowed = {"allowed": under is not None, "under": under, "reason": reason}
        entries.append({"field": path, "left": left_value, "right": right_value} | allowed)
    broken = any(not item["allowed"] for item in entries)
    broken |= any(item["required"] and not item["equal"] for item in evidence.values())
    verdict = NOT_MATCHED if broken else MATCHED_EXCEPT if entries else MATCHED
    return Certificate(contract.name, left.name, right.name, verdict, entries, evidence)
