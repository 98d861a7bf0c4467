"""How many rows each step takes: a closed form of the step, so that a run resumed anywhere reads on at the right row."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchSchedule:
    """Batches of `rows` rows, after a warm-up of the batch size where there is one.

    The warm-up takes `stage_steps` steps at each of rows/stages, 2 rows/stages, … up to, but not with, `rows`: the same
    number of steps at each size, as the packer of the published code meant it (there counted in micro-batches of a device).
    """

    rows: int
    stages: int = 1
    stage_steps: int = 0

    def __post_init__(self) -> None:
        assert self.rows % self.stages == 0, "the configuration checks that the batch divides"

    @property
    def warmup_steps(self) -> int:
        """Steps before the batch is whole."""
        return self.stage_steps * (self.stages - 1)

    @property
    def sizes(self) -> list[int]:
        """The sizes in the order they come."""
        return [self.rows * stage // self.stages for stage in range(1, self.stages + 1)]

    def rows_of(self, step: int) -> int:
        """Rows of a step."""
        if step >= self.warmup_steps:
            return self.rows
        return self.rows // self.stages * (step // self.stage_steps + 1)

    def before(self, step: int) -> int:
        """Rows of all steps before one; of the whole phase for its number of steps."""
        warm = min(step, self.warmup_steps)
        stage, rest = divmod(warm, self.stage_steps) if self.stage_steps else (0, 0)
        grown = self.stage_steps * stage * (stage + 1) // 2 + rest * (stage + 1)  # in units of the first size
        return self.rows // self.stages * grown + (step - warm) * self.rows
