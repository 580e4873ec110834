"""What is known about expressions before there are inputs: what they read, their ranges and bounds."""
