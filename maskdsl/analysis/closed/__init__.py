"""Tiles that kernels compute, without lists: the relation solved for the position of the other token in memory."""
