"""Adapters to host, engine, Prefect and blocks, with their dry-run twins. They act when called, and decide nothing."""
