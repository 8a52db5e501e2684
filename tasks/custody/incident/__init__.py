"""Incident, alarm, custody log, timeline, verdict, endings. Writes only the custody log."""
