"""Plan and skeleton to source text."""
