"""Binds routes: selection by score, clusters, draws."""
