"""python -m experiments.retrieve models=[runs/<encoder>,runs/<decoder>] eval_data=<folder>: retrieval models of every member.

Dense, multi-vector and sparse embeddings or rerankers (kind=...). Each checkpoint gets the same grid of fine-tuning, is measured
by MTEB, and is reported at the setting that dev prefers, with the median and the worst of the grid. Killed, it continues;
repeated, it prints the table again.
"""

from ettin_core.evaluation.retrieval.table import chosen_models, table
from ettin_core.requests.retrieve import RetrieveRequest, retrieve
from experiments.cli.entry import entry


@entry("retrieve", RetrieveRequest)
def main(request: RetrieveRequest) -> None:
    """Train and measure what is missing, and print the table and the folders of the chosen models."""
    scores = retrieve(request)
    print(table(scores))
    if folders := chosen_models(scores, request.retrieval_dir):
        print(f"\nchosen models:\n{folders}")


if __name__ == "__main__":
    main()
