"""Tiles to what every single query attends: exact runs of keys, or of queries of every key."""
