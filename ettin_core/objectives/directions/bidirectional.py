"""Every token of the document is seen from everywhere in it."""

from ettin_core.objectives.targets import Direction

DIRECTION = Direction("bidirectional", "bidirectional", lambda lengths, keys: lengths, readout="bidirectional")
