"""The largest numbers that calls and options take. Imports nothing, so that help can name them at once."""

MOST_ENTRIES = 2**20
"""The most entries of a batch."""
MOST_HEAD_DIM = 2**16
"""The largest head dimension."""
MOST_HEADS = 4096
MOST_TOKENS = 2**31 - 1
"""The most tokens of a space or a sequence."""
