"""What every backend and kernel builds on: checked calls, inputs as tensors, and the caches that calls share."""
