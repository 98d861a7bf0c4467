"""Bias, with one estimator for every member; docs/bias.md says what each number means."""
