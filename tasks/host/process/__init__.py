"""Processes: read from /proc, and told which are members of the workload. Nothing here sends a signal."""
