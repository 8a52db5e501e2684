"""A fleet on one server; a package, so that what its tests share ends with them, and not with the session."""
