"""The report of a corpus and of what a recipe draws from it: tables, figures and a page."""
