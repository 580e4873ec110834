"""How exact torch is told to be: the one of its settings that kernels follow."""

import torch


def short_products() -> bool:
    """Whether products of float32 on a GPU may be those of shorter numbers, by whichever of torch's settings."""
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)  # since torch 2.9, where the others may refuse to be read
    return bool(matmul.allow_tf32) if precision is None else precision == "tf32"
