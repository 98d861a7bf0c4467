"""Floor 1: typed evidence and names. Imports without torch."""
