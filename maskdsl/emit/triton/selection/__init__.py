"""Plan to the Triton kernels that find what routes select."""
