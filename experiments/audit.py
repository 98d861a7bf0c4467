"""python -m experiments.audit pair=encoder_decoder size=17m: are the members matched? Configuration, and evidence if asked."""

import sys
from dataclasses import dataclass

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.config import DataConfig
from ettin_core.data.preparation.plan import expected_ids
from ettin_core.foundation.errors import invalid
from ettin_core.optim.config import OptimizerConfig
from ettin_core.pairs.audit import NOT_MATCHED, Certificate, audit, certify
from ettin_core.pairs.contract import Contract
from ettin_core.planning.run_plan import MemberConfig, TrainingParts, open_run
from ettin_core.planning.sizes import SizeConfig
from ettin_core.training.config import Seeds
from ettin_core.training.phases import RecipeConfig
from experiments.cli.entry import entry

EXIT_NOT_MATCHED = 1


@dataclass(frozen=True)
class AuditRequest:
    """conf/audit.yaml."""

    pair: Contract
    size: SizeConfig
    recipe: RecipeConfig
    data: DataConfig
    optimizer: OptimizerConfig
    left_member: MemberConfig
    right_member: MemberConfig
    left: str | None
    right: str | None
    seed: int
    seeds: Seeds
    precision: str
    checkpoint: CheckpointConfig


@entry("audit", AuditRequest)
def main(request: AuditRequest) -> None:
    """Print the certificate; exit status 1 when the members are not matched."""
    if (request.left is None) != (request.right is None):
        raise invalid("left", request.left, "and right go together", "give both run folders, or neither")
    certificate = _from_runs(request) if request.left else _from_configuration(request)
    print(describe(certificate))
    if certificate.verdict == NOT_MATCHED:
        sys.exit(EXIT_NOT_MATCHED)


def _from_runs(request: AuditRequest) -> Certificate:
    assert request.left is not None and request.right is not None
    left_folder, left = open_run(request.left)
    right_folder, right = open_run(request.right)
    return certify(request.pair, left, right, left_folder, right_folder)


def _from_configuration(request: AuditRequest) -> Certificate:
    """Compare what would be run. The corpus need not be prepared: both members would share it."""
    parts = TrainingParts(
        request.size, request.recipe, request.optimizer, request.seeds, request.precision, request.checkpoint
    )
    members = (request.left_member, request.right_member)
    unknown = "not prepared"
    runs = [parts.planned(member, expected_ids(request.data), unknown, unknown) for member in members]
    return audit(request.pair, runs[0], runs[1])


def describe(certificate: Certificate) -> str:
    """The certificate as text."""
    lines = [certificate.sentence()]
    for item in certificate.differences:
        verdict = f"may differ: {item['reason']}" if item["allowed"] else "BREAKS THE CONTRACT"
        lines.append(f"  {item['field']}: {item['left']!r} | {item['right']!r}  ({verdict})")
    for name, item in certificate.evidence.items():
        mark = "equal" if item["equal"] else "DIFFERS" if item["required"] else "differs (reported)"
        values = dict.fromkeys((repr(item["left"]), repr(item["right"])))
        lines.append(f"  {name}: {mark}" + ("" if item["equal"] else f"  {' | '.join(values)}"))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
