"""Layer 1: update rules, parameter groups and schedules."""
