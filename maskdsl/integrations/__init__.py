"""Patterns in the libraries that people have: one module for each, which imports it."""
