"""The words of a command line to masks, inputs and options. Prints nothing."""
