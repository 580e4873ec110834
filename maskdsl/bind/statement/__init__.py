"""Binds the statements of a pattern, one module for each kind: spaces, coordinates, parameters, routes."""
