"""Importers: one adapter for each form in which text lies about."""
