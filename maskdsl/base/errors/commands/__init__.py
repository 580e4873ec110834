"""Errors of the command line and of the files that it writes."""
