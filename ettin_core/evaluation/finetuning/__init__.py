"""Fine-tuning as a protocol: every member is given the same tasks, heads, data order and number of trials."""
