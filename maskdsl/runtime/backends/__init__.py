"""Backends: what each is, which serves a call, and how it runs its generated module. Nothing of autograd."""
