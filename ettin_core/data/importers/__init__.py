"""Importers: one adapter for each form in which text is stored."""
