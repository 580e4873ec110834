"""How far information travels through the layers of a stack, and how far back a query attends."""
