"""Masks that people have, as patterns: `from_dense` and `from_mask_mod`."""

from maskdsl.api.recognition.imports import Imported, from_dense, from_mask_mod

__all__ = ["Imported", "from_dense", "from_mask_mod"]
