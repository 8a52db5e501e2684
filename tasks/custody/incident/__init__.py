"""Incident, alarm, custody log, timeline, verdict, endings. The only file written here is the custody log."""
