"""Layer 2: exact training state on disk, complete or absent."""
