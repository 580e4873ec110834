"""Draws pictures and tables for the terminal, as rich renderables."""
