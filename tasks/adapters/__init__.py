"""Doors to host, engine, Prefect and blocks, with their dry-run twins. They act when told, and decide nothing."""
