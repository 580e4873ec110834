"""Reference semantics of masks and routes on NumPy arrays: the oracle for everything faster."""
