"""The campaign of bad inputs: a module for each area makes its cases; experiments/bad_inputs.py tries them and counts."""
