"""Block map to predicted time on a GPU; tables of devices and tile sizes."""
