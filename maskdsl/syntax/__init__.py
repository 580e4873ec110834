"""Parses texts to syntax trees, and formats trees as texts."""
