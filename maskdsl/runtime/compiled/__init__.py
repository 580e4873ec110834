"""What is compiled: masks at fixed lengths and at those of each call, with their calls, and the registry of handles."""
