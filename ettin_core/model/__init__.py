"""Floor 1: one transformer for every direction. Knows neither optimiser nor objective."""
