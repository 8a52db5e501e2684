"""What a run does before Prefect is imported: freeze, or join. Standard library alone; what can wait is not here."""
