"""Primitives of the operating system: files, sandbox, accounts, tables. Uses no other package but custody."""
