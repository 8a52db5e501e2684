"""Containers: the engine, its twin, and which belong to the workload. Nothing signals by pid."""
