"""Backends: their protocol, which one serves a call, and how each runs its generated module. Autograd is elsewhere."""
