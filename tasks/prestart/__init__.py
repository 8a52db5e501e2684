"""What a run does before Prefect is imported: freeze, or join. Standard library alone; whatever can wait, waits."""
