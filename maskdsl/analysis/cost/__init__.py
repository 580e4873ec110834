"""Block map to predicted time on a GPU."""
