"""Evacuate a fleet: open, order, follow, record. Acts on the Prefect server and stores alone, never on a host."""
