"""Mask to block map: the exact class of every tile, by intervals over trees of blocks."""
