"""Plan to Triton kernels, as text: forward, backward and decode. Knows `emit/torch`, which knows nothing of it."""
