"""The state of binding: declarations in scope, typed values, errors so far."""
