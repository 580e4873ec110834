"""How one mask computes a call of each kind: whole, with some of the queries, packed. Arguments are not read here."""
