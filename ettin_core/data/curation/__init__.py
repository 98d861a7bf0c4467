"""Optional curation of a source: published quality rules, language, duplicates. Every removal is counted by rule."""
