"""Static facts about expressions, before there are inputs: what they read, their ranges, their bounds."""
