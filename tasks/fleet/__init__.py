"""Evacuate a fleet: open its incident, order each host's evacuation, follow them to their ends, write the record."""
