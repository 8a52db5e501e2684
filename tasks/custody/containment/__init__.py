"""Decisions on processes and containers, and their receipts. Pure: judges a snapshot and sends no signal."""
