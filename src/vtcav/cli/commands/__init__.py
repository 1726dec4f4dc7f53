"""One module a command: options in, one call, text out."""
