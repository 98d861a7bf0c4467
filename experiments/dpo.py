"""python -m experiments.dpo model=<SFT folder> preferences=<file> out=<folder>: preference tuning by TRL.

Stopped, it continues from its last checkpoint; repeated, it prints the table again.
"""

from ettin_core.evaluation.chat.table import table
from ettin_core.requests.tune import DpoRequest, dpo
from experiments.cli.entry import entry


@entry("dpo", DpoRequest)
def main(request: DpoRequest) -> None:
    """Tune and print the accuracy of preferences before and after."""
    print(table(dpo(request)))


if __name__ == "__main__":
    main()
