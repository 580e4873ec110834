"""torch's setting for the precision of float32 matrix products, which kernels follow."""

import torch


def allows_tf32() -> bool:
    """Whether float32 matrix products on a GPU may use TF32, by torch's new setting or its old one."""
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)  # since torch 2.9, where reading `allow_tf32` may raise
    return bool(matmul.allow_tf32) if precision is None else precision == "tf32"
