"""The declared catalogue of errors, one module a stage."""
