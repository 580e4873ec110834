"""Elaborates expressions of the tree to typed terms: names, functions, macros, tables."""
