"""What the benchmark commands time: the sides of each comparison, and how memory is measured."""
