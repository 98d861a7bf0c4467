"""Many runs as one study: the grid of cells, the jobs that train and measure them, workers, and searches."""
