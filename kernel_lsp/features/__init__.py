"""One file per feature of the language server."""
