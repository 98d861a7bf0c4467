"""python -m experiments.merge parents=[runs/<a>,runs/<b>] method=ties base=runs/<c>: one model of several runs' weights."""

from ettin_core.requests.merge import PLACEMENT, MergeRequest
from ettin_core.studies.train_run import trained
from experiments.cli.entry import entry


@entry("merge", MergeRequest)
def main(request: MergeRequest) -> None:
    """Merge checkpoints of complete runs into a run."""
    run, corpus, start = request.prepared()
    print(trained(run, corpus, PLACEMENT, request.runs_dir, request.stale, start))


if __name__ == "__main__":
    main()
