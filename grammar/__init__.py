"""The language as data: the grammar, the standard library, the grammar for editors. Nothing to import."""
