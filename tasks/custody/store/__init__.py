"""What lies in a store: manifest, ledger, signatures, transactions of latest/. Nothing here talks to a store."""
