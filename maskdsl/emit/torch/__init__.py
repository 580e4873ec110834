"""Plan to the text of torch modules: the dense reference, the tiled backend, routes, and FlexAttention."""
