"""Partial calls, which have some of a pattern's queries: decoding, chunked prefill, paged keys, packed sequences."""
