"""python -m experiments.audit pair=encoder_decoder size=17m: are the members matched? Configuration, and evidence if asked."""

import sys

from ettin_core.pairs.audit import NOT_MATCHED, Certificate
from ettin_core.requests.audit import AuditRequest
from experiments.cli.entry import entry

EXIT_NOT_MATCHED = 1


@entry("audit", AuditRequest)
def main(request: AuditRequest) -> None:
    """Print the certificate; exit status 1 when the members are not matched."""
    certificate = request.certificate()
    print(describe(certificate))
    if certificate.verdict == NOT_MATCHED:
        sys.exit(EXIT_NOT_MATCHED)


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
