"""Analysis of masks without work on all pairs: tiles, counts, indices, reach, costs and orders. Needs no torch."""
