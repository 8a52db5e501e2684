"""Packages of the evacuation, in rows. Outside them lies `priority` alone: units of servers start it by that name."""
