"""From records to tables, figures and a page. Reads `ettin_core.records` and nothing else; imports without torch.

`--help` is answered before anything slow is imported.
"""

from ettin_core.foundation.help import print_requested_help

print_requested_help(__name__)
