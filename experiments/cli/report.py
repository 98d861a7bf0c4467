"""Starting a command of analysis/: it reads what was written, and experiments/ never imports it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from ettin_core.foundation.errors import RunStopped
from ettin_core.foundation.manual import CONFIGURATIONS
from ettin_core.foundation.override_text import assignment


def analyse(command: str, done: str, **paths: Path) -> None:
    """Run `python -m analysis.<command> name=path ...`; -P keeps a user's own `analysis` in the current folder out.

    Raises RunStopped, which says what is `done` and how to begin what failed by hand.
    """
    line = [
        sys.executable,
        "-P",
        "-m",
        f"analysis.{command}",
        *(assignment(name, path.resolve()) for name, path in paths.items()),
    ]
    search = os.pathsep.join([str(CONFIGURATIONS.parent), os.environ.get("PYTHONPATH", "")])
    if subprocess.run(line, env=os.environ | {"PYTHONPATH": search}).returncode:
        raise RunStopped(f"{done}: {shlex.join(line)}")
