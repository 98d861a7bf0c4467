"""What commands print: batches as text, a dry run, the table of a plan."""
