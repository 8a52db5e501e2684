"""A past incident proven again from its store alone. Nothing here writes to a store or needs the incident's host."""
