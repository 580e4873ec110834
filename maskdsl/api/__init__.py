"""The public API: `load`, `parse` and `compile`, and modules, patterns, masks and stacks. A thin layer over the stages.

Only the methods and the function named `compile` import torch.
"""

from maskdsl.api.bound_patterns import Mask
from maskdsl.api.modules import Module, UnknownPattern, compile, load, parse
from maskdsl.api.patterns import Pattern
from maskdsl.api.stacks import BoundStack, Stack

__all__ = ["BoundStack", "Mask", "Module", "Pattern", "Stack", "UnknownPattern", "compile", "load", "parse"]
