"""Gradients of the float inputs that scores, weights and the scale read: what backward kernels sum, and where."""
