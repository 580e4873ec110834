"""What people import: `load`, `parse` and `compile`; modules, patterns, masks and stacks. A thin face over the stages.

Nothing here imports torch, but for the methods named `compile`, which are the ways to it.
"""

from maskdsl.api.modules import Module, UnknownPattern, compile, load, parse
from maskdsl.api.patterns import Mask, Pattern
from maskdsl.api.stacks import BoundStack, Stack

__all__ = ["BoundStack", "Mask", "Module", "Pattern", "Stack", "UnknownPattern", "compile", "load", "parse"]
