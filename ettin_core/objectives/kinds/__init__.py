"""The objectives, one module each: a module here that defines OBJECTIVE is an objective and needs no other registration."""

from ettin_core.foundation.strict_config import members_of
from ettin_core.objectives.targets import Objective

OBJECTIVES: dict[str, Objective] = members_of(__name__, __path__, "OBJECTIVE")
