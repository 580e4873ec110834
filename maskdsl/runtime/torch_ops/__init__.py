"""The custom operators of torch, with their gradients and `vmap` rules. What they compute is in `kernels`."""
