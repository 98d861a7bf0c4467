"""python -m experiments.finetune run=runs/<run> task=[sst2,cola] eval_data=<folder>: a grid of fine-tuning trials, each once."""

from ettin_core.evaluation.finetuning.summary import table
from ettin_core.requests.finetune import FinetuneRequest, finetune
from experiments.cli.entry import entry


@entry("finetune", FinetuneRequest)
def main(request: FinetuneRequest) -> None:
    """Run what is missing of every grid and print their summary."""
    print(table(finetune(request)))


if __name__ == "__main__":
    main()
