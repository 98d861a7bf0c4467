"""python -m experiments.convert parent=runs/<run> member=dec-from-enc budget=0.1: another member on the parent's weights."""

from ettin_core.planning.forecast import forecast
from ettin_core.requests.convert import ConvertRequest
from ettin_core.studies.train_run import trained
from experiments.cli.entry import entry
from experiments.views.dry_run import describe, timed


@entry("convert", ConvertRequest)
def main(request: ConvertRequest) -> None:
    """Convert a complete run, or a model that was not trained here."""
    if request.dry_run:
        run, corpus = request.planned()
        print(describe(timed(forecast(run, request.placement, corpus, request.machine), request.placement)))
        return
    run, corpus, start = request.prepared(print)
    print(trained(run, corpus, request.placement, request.runs_dir, request.stale, start))


if __name__ == "__main__":
    main()
