"""Layer 1: any corpus in, deterministic packed rows out. Knows no objective."""
