"""Tree and parameter values to the IR."""
