"""Plan to the Triton kernels that compute the selections of routes."""
