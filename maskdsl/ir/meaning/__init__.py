"""The plain meaning of a mask in NumPy: the oracle for all that is faster. Values, not kernels."""
