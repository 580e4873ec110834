"""How patterns are shown: in the terminal, as images, as a page, in notebooks and in editors."""
