"""What routes compute, as plain arrays: vectors of groups, steps of scores, selection, draws."""
