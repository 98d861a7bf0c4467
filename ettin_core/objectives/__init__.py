"""Layer 2: what is predicted, decided after the batch exists."""
