"""Primitives of the operating system: files, locks, processes, sandbox. Of the other packages only custody is used."""
