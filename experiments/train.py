"""python -m experiments.train size=nano member=encoder data=world: one run, alone or under torchrun."""

from ettin_core.requests.train import TrainRequest
from ettin_core.studies.train_run import trained
from experiments.cli.entry import entry
from experiments.views.dry_run import dry_run


@entry("train", TrainRequest)
def main(request: TrainRequest) -> None:
    """Train one member from scratch."""
    request = request.settled()
    if request.dry_run:
        print(dry_run(request))
        return
    run, corpus = request.prepared()
    print(trained(run, corpus, request.placement, request.runs_dir, request.stale))


if __name__ == "__main__":
    main()
