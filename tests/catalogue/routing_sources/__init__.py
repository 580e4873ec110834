"""What the sources of routing patterns select and compute, as `tests/catalogue/sources` has the others."""
