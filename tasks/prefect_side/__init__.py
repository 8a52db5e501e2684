"""Prefect's server from our side: scheduler, blocks, clock, own servers. No step, and nothing of the host."""
