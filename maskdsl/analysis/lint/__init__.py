"""What is exactly true of a pattern and was probably not meant: warnings of lines, queries, parameters and inputs."""
