"""The module of decoding and chunked prefill: the code of its kernels, and which blocks of keys they list."""
