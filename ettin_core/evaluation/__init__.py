"""Floor 4: protocols, the same for every member."""
