"""The IR to tiles and numbers, without work on all pairs. No torch, and nothing that is drawn."""
