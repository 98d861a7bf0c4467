"""Floor 0: randomness, storage, provenance, strict structures and the process group."""
