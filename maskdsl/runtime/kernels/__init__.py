"""Objects around generated modules: they prepare arguments and call kernels. torch's operators are in `torch_ops`."""
