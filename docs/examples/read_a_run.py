"""What a run folder holds: configuration, training records, measurements. Usage: python read_a_run.py runs/<run>"""

import sys

from ettin_core.planning.run_plan import open_run

folder, run = open_run(sys.argv[1])
print(f"{run.name}: {run.member}, {run.direction}, {run.objective.name}, {run.tokens:,} tokens")
print(f"complete: {folder.complete}, trained by {folder.path}")
for row in folder.training()[-3:]:
    print(f"step {row.step}: loss {row.loss:.3f} at {row.tokens:,} tokens")
for measurement in folder.measurements():
    print(
        f"{measurement.protocol}: {measurement.task} {measurement.metric} = {measurement.value} (n = {measurement.n})"
    )
