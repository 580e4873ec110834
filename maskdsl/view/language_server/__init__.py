"""The language server, `maskdsl lsp`, by the Language Server Protocol. Needs pygls, not torch."""
