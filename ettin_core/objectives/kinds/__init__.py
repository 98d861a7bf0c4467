"""The objectives, one module each. A module here that defines OBJECTIVE is an objective; nothing else names it."""

from ettin_core.foundation.strict_config import members_of
from ettin_core.objectives.targets import Objective

OBJECTIVES: dict[str, Objective] = members_of(__name__, __path__, "OBJECTIVE")
