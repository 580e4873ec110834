"""The backend whose kernels are compiled C. Empty so far."""
