"""Plan to torch modules, as text: the dense reference, the tiled backend, routes, and FlexAttention."""
