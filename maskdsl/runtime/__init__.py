"""The callable."""
