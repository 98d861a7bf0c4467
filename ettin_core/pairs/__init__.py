"""Layer 5: contract, audit and certificate."""
