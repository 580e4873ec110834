"""What the sources of the catalogue compute, ported one function each: a module for each kind of pattern.

Logic and names are ours. The first line of each docstring says what the rule was read in, as the example does:
`Released code: repository, file, commit.`, `Library: package, module.`, `No public code: the paper's text.`, or
`By definition.` `ROWS` of a module pairs functions with examples.
"""
