"""Generated modules as objects: what lays out arguments and calls a kernel. No operators of torch here."""
