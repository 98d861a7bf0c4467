"""Thin Hydra entry points: compose, check, call, close. Hydra ends here."""
