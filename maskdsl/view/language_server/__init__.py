"""`maskdsl lsp`: the language in editors, by the Language Server Protocol. A face like `cli`; needs pygls, no torch."""
