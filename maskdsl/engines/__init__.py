"""Masks in the encodings of other attention engines, from exact tiles. No torch. Empty so far."""
