"""The directions, one module each. A module here that defines DIRECTION is a direction; nothing else names it.

A direction says how long a prefix of each document is open, that is, seen from everywhere in the document: all of it
(bidirectional), nothing (causal), or something in between. An open stretch is always a prefix: were it elsewhere, tokens
before it would learn of tokens after them by way of it.
"""

from ettin_core.foundation.strict_config import members_of
from ettin_core.objectives.targets import Direction

DIRECTIONS: dict[str, Direction] = members_of(__name__, __path__, "DIRECTION")
