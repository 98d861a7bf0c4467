"""From records to tables, figures and a page. Reads `ettin_core.records` and nothing else; imports without torch."""
