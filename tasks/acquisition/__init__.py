"""How evidence is taken: sources, copying, room, limits. No collector of its own, and no Prefect."""
