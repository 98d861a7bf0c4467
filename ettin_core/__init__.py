"""The library: packages that import only from layers below them (docs/architecture.md)."""
