"""The library: rooms that import only from the floors below them (see README, "The house")."""
