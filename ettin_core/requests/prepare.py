"""A preparation as it is asked for."""

from dataclasses import dataclass

from ettin_core.data.config import DataConfig


@dataclass(frozen=True)
class PrepareRequest:
    """conf/prepare.yaml."""

    data: DataConfig
    workers: int | None
    verify: bool
    corpora_dir: str
