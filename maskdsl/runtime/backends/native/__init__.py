"""The backend whose kernels are compiled C: the library of its functions, and who compiles it."""
