"""Floor 3: Hugging Face folders in and out, and conversion."""
