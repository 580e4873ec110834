"""Proofs that table reads stay inside their tables for all pairs that attend."""
