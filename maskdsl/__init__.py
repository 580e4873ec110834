"""A language for attention patterns, and its compiler."""
