"""Runs compiled masks on torch tensors: the attention modules, their operators, backends and caches. Imports torch."""
