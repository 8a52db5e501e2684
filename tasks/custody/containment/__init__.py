"""Receipts of what was done to processes and containers, and their identities. Pure: judges no snapshot."""
