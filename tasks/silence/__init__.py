"""Witnesses, as processes of their own, of what changes below a folder. Standard library alone; nothing is decided."""
