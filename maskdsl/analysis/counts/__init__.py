"""Exact counts of a mask: pairs, keys per query, tiles, arithmetic; how they grow, and how two masks differ."""
