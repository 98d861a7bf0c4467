"""`ettin <command> ...`, the same as `python -m experiments.<command> ...`, from any folder.

The installed script never looks into the current folder for modules: a user's own `experiments` or `analysis` there does not
get in the way. Without a command it lists them, with the first sentence of each one's help.
"""

import os
import runpy
import sys

from ettin_core.foundation.errors import unknown
from ettin_core.foundation.exits import ending_in_one_line
from ettin_core.foundation.help import OPTIONS, requested_help
from ettin_core.foundation.manual import commands, manual

HARNESS = "experiments.harness"
EXPERIMENTS = """
    study status runs train extend convert merge make_eval_sets evaluate finetune retrieve sft dpo harness export quantise
    search audit boundaries plan plan_study prepare preview data_report view_batch benchmark benchmark_data
    benchmark_scoring faults bad_inputs
"""
ANALYSES = "report compare simulate coverage"
COMMANDS = {name: f"experiments.{name}" for name in EXPERIMENTS.split()}  # in the order in which one meets them
COMMANDS |= {name: f"analysis.{name}" for name in ANALYSES.split()}


def main() -> None:
    """Run a command as its own process would."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # for the processes that it starts
    name, *arguments = sys.argv[1:] or ["--help"]
    with ending_in_one_line():
        if name in OPTIONS:
            print("\n".join(listed()))
            return
        if name not in COMMANDS:
            raise unknown("command", name, "is not a command", COMMANDS)
        module = COMMANDS[name]
        text = None if module == HARNESS else requested_help(commands()[module], arguments, f"ettin {name}")
        if text is not None:
            print(text)
            return
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def listed() -> list[str]:
    """What there is, a line each."""
    summaries = {name: manual(commands()[module]).summary for name, module in COMMANDS.items() if module != HARNESS}
    summaries["harness"] = "lm-evaluation-harness with the model class `ettin`."
    lines = ["ettin <command> [key=value ...]; ettin <command> --help prints its keys", ""]
    return [*lines, *(f"{name:<20}{summaries[name]}" for name in COMMANDS)]


if __name__ == "__main__":
    main()
