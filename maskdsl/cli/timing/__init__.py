"""What `run` and `bench` time, how, and what they say of it. Imports torch."""
