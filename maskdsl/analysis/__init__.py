"""The IR to tiles and numbers."""
