"""Rewrites of masks and expressions: derivatives, guarded branches, chunks, packing, regrouped queries."""
