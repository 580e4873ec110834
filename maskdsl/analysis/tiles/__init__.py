"""Mask to block map: the exact class of every tile, by interval arithmetic over trees of blocks."""
