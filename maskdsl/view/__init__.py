"""Shows patterns: in the terminal, as images, as a page, in notebooks and in editors."""
