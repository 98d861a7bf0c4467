"""`ettin <command> ...`, the same as `python -m experiments.<command> ...`, from any folder.

The installed script never looks into the current folder for modules: a user's own `experiments` or `analysis` there does not
get in the way. Without a command it lists them.
"""

import os
import runpy
import sys

from ettin_core.foundation.errors import invalid

COMMANDS = {
    "study": "a whole study: runs, conversions, measurements, certificates, report",
    "status": "where each cell of a study is",
    "runs": "the runs there are: what differs, state, loss, disk; shows and removes them",
    "train": "one run; dry_run=true prints everything and trains nothing",
    "extend": "a longer run that goes on where a finished one ended",
    "make_eval_sets": "small evaluation sets for the commands that read some, offline",
    "convert": "a run that starts from another's weights",
    "evaluate": "measure a run, or a transformers folder or hub id",
    "finetune": "fine-tune on classification, regression and tagging tasks, with equal trials",
    "retrieve": "dense embeddings: contrastive fine-tuning, measured by MTEB",
    "harness": "lm-evaluation-harness with the model class `ettin`",
    "export": "a transformers folder, or a cache with a revision for each checkpoint",
    "search": "the best learning rate of each member",
    "audit": "was the pair matched?",
    "boundaries": "did a phase boundary hurt?",
    "plan": "the published grid on paper",
    "plan_study": "seeds, items and minutes that a study needs",
    "prepare": "a corpus: tokenizer, shards, manifest",
    "preview": "the first documents as they will be read",
    "data_report": "a page about a corpus",
    "view_batch": "the exact batch of a step",
    "benchmark": "tokens per second against transformers",
    "benchmark_data": "preparation and loading against other libraries",
    "benchmark_scoring": "scoring against one request at a time",
    "faults": "kill real runs and compare them with undisturbed ones",
    "report": "tables, figures and a page from recorded runs",
    "compare": "any two models: paired, clustered, with equivalence within a margin",
    "simulate": "coverage, false alarms and power of the report's intervals",
}
ANALYSIS = ("report", "compare", "simulate")  # commands of `analysis`


def main() -> None:
    """Run a command as its own process would."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # for the processes that it starts
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print("ettin <command> [key=value ...]; ettin <command> --help prints its keys\n")
        print("\n".join(f"{command:<20}{what}" for command, what in COMMANDS.items()))
        return
    if name not in COMMANDS:
        sys.exit(f"error: {invalid('command', name, 'is not a command', 'use ' + ', '.join(COMMANDS))}")
    package = "analysis" if name in ANALYSIS else "experiments"
    sys.argv = [f"{package}.{name}", *arguments]
    runpy.run_module(f"{package}.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
