"""Binding of patterns to laid-out masks, and the search for the memory order of tokens with the least predicted time.

The search compares block maps, so the meaning of the pattern decides, not a heuristic of its text. Above the rest of
`analysis`, below `emit`; needs no torch.
"""
