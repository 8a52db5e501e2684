"""Control groups: whose they are, and how they are frozen. Knows no process but by its pid."""
