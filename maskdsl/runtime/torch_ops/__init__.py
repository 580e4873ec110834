"""torch's custom operators, with their gradients, autocast and `vmap` rules. The kernels they call are in `kernels`."""
