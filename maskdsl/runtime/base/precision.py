"""torch's setting for the precision of float32 matrix products, which kernels follow."""

import torch

_PRECISION = getattr(torch._C, "_get_fp32_precision_getter", None)
"""What torch's new setting reads, since torch 2.9. Through it every call would pay for three attributes."""


def allows_tf32() -> bool:
    """Whether float32 matrix products on a GPU may use TF32, by torch's new setting or its old one."""
    if _PRECISION is not None:
        return bool(_PRECISION("cuda", "matmul") == "tf32")
    return bool(torch.backends.cuda.matmul.allow_tf32)
