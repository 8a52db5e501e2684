"""§5, §6: offload, verification, and the ledger. Nothing here collects, seals or changes latest/."""
