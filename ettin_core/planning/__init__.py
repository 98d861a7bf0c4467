"""What a run will be before it exists: sizes, plans and their checks, conversions, forecasts, matched lengths."""
