"""Primitives of the operating system: files, locks, processes, sandbox. Nothing here knows incidents or Prefect."""
