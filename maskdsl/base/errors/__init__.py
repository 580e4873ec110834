"""The declared catalogue of errors: each module is named for what its errors are about."""
