"""Errors of calls from Python: arguments, inputs, tensors, lengths, backends, libraries."""
