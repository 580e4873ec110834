"""How far information travels: through the layers of a stack, and back from one query."""
