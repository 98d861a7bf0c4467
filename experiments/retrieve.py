"""python -m experiments.retrieve models=[runs/<encoder>,runs/<decoder>] eval_data=<folder>: embeddings of every member.

Each checkpoint and pooling gets the same grid of contrastive fine-tuning, is measured by MTEB, and is reported at the setting
that dev prefers, with the median and the worst of the grid. Killed, it continues; repeated, it prints the table again.
"""

from ettin_core.evaluation.retrieval.table import table
from ettin_core.requests.retrieve import RetrieveRequest, retrieve
from experiments.cli.entry import entry


@entry("retrieve", RetrieveRequest)
def main(request: RetrieveRequest) -> None:
    """Train and measure what is missing, and print the table."""
    print(table(retrieve(request)))


if __name__ == "__main__":
    main()
