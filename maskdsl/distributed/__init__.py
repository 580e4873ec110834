"""Masks cut for several processes: which pairs each computes and which keys it needs. No torch. Empty so far."""
