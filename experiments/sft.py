"""python -m experiments.sft model=runs/<decoder> conversations=<file> out=<folder>: supervised fine-tuning by TRL.

Stopped, it continues from its last checkpoint; repeated, it prints the table again.
"""

from ettin_core.evaluation.chat.table import table
from ettin_core.requests.tune import SftRequest, sft
from experiments.cli.entry import entry


@entry("sft", SftRequest)
def main(request: SftRequest) -> None:
    """Tune and print what held-out conversations cost before and after."""
    print(table(sft(request)))


if __name__ == "__main__":
    main()
