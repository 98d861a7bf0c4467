"""python -m experiments.plan_study effect=0.01 power=0.8: the seeds, items and minutes a study needs (analysis.plan_study)."""

import subprocess
import sys


def main() -> None:
    """Hand the command line over to analysis/plan_study.py, which reads records."""
    sys.exit(subprocess.run([sys.executable, "-m", "analysis.plan_study", *sys.argv[1:]], check=False).returncode)


if __name__ == "__main__":
    main()
