"""Recognizes existing masks as patterns: `from_dense` for arrays, `from_mask_mod` for FlexAttention's functions."""

from maskdsl.api.recognition.imports import Imported, from_dense, from_mask_mod

__all__ = ["Imported", "from_dense", "from_mask_mod"]
