"""Statements of a pattern, kind by kind: spaces, coordinates, parameters, routes."""
