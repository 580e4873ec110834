"""A mask or an expression to another one: derivatives, chunks, regrouped queries."""
