"""python -m experiments.train size=nano member=encoder data=world: one run, alone or under torchrun."""

from ettin_core.data.preparation.progress_bar import prepared
from ettin_core.studies.stale import RETRAIN, check_choice
from ettin_core.studies.train_run import trained
from experiments.cli.entry import entry
from experiments.cli.requests import TrainRequest
from experiments.views.dry_run import dry_run


@entry("train", TrainRequest)
def main(request: TrainRequest) -> None:
    """Train one member from scratch."""
    check_choice(request.stale, RETRAIN)
    if request.dry_run:
        print(dry_run(request))
        return
    request.planned()  # what could not be trained is said before a corpus is prepared for it
    corpus = prepared(request.data, request.corpora_dir)
    run = request.parts.run(request.member, corpus)
    print(trained(run, corpus, request.placement, request.runs_dir, request.stale))


if __name__ == "__main__":
    main()
