"""Exact numbers of a mask: pairs, keys per query, cost, and how they grow or differ."""
