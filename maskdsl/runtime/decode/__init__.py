"""Calls with fewer queries than keys: decoding, chunked prefill, paged keys and packed sequences."""
