"""Checks, before an incident, of all that an evacuation needs. Nothing here freezes, stops, locks or reloads."""
