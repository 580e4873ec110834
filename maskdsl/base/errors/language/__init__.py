"""Errors and warnings of texts: what is written in a `.attn` file, and values for its parameters."""
