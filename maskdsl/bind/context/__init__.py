"""What is known while a pattern is bound: declarations in scope, typed values, errors so far."""
