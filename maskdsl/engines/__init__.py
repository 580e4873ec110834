"""Masks in the encodings of other attention engines, from exact tiles and runs. No torch."""
