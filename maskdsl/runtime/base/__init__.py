"""What every backend and kernel stands on: checked calls, their inputs as tensors, and what calls share."""
