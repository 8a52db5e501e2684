"""The content of a store: manifest, ledger, signatures, transactions of latest/. Accesses no store."""
