"""What the campaigns try: kills.py for experiments/faults.py; every other module, areas of experiments/bad_inputs.py."""
