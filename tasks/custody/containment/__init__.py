"""Decisions on processes and containers, and their receipts. Nothing here sends a signal: a snapshot is judged."""
