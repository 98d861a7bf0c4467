"""What a run folder holds: configuration, training records, measurements, a model. Usage: python read_a_run.py runs/<run>"""

import sys

import ettin_core as ettin

run = ettin.load_run(sys.argv[1] if len(sys.argv) > 1 else "latest")
print(
    f"{run.name}: {run.config.member}, {run.config.direction}, {run.config.objective.name}, {run.config.tokens:,} tokens"
)
for row in run.history[-3:]:
    print(f"step {row.step}: loss {row.loss:.3f} nats at {row.tokens:,} tokens")
for item in run.measurements:
    print(f"{item.protocol}: {item.task} {item.metric} = {item.value} (n = {item.n})")
[score] = run.open(device="cpu").log_probability([("The cat", " sat")])
print(f"log p( sat | The cat) = {score.log_probability:.2f} nats")
