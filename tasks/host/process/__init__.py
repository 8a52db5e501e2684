"""Processes: read from /proc, and judged as members or suspects. Nothing here sends a signal."""
