"""The `cnapse` command: parse, call, print. One module a command group."""
