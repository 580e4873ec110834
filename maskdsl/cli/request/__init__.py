"""Reads the words of a command line: masks, inputs, options, completions."""
