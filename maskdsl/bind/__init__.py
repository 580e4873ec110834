"""Tree and parameter values to a mask: names, macros, types, guards, folding. User errors of meaning are here."""

from maskdsl.bind.pattern import bind, find_pattern

__all__ = ["bind", "find_pattern"]
