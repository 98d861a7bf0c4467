"""What a command is asked for: overrides composed by Hydra into a typed request, and what is done about it. The top layer."""
