"""Plan and skeleton to source text. Nothing is run here."""
