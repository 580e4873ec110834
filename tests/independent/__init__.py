"""A second meaning of the language, written from `docs/language.md` alone, and what is held against it.

`reader` parses, `meaning` evaluates pair by pair in plain Python, `derivatives` differentiates, `programs` draws random
texts and tensors, `compare` holds the product against them. Nothing but `compare` imports the product.
"""
