"""Shared by all layers: source text and spans, declared errors, the cache on disk, checked arguments, progress."""
