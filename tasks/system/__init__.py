"""Primitives of the operating system: files, locks, processes, sandbox. Uses no other package but custody."""
