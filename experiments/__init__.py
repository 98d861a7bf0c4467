"""Thin Hydra entry points: compose, check, call, close. Hydra ends here.

`--help` is answered before anything slow is imported.
"""

from ettin_core.foundation.help import print_requested_help

print_requested_help(__name__)
