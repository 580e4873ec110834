"""Pictures and tables for the terminal, as rich renderables. Imports `analysis` and what is left of it; no torch."""
