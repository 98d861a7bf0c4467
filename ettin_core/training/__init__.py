"""Floor 3: phases, the step and the loop."""
