"""An incident on this host: its folder, file names, lock, joining. Standard library alone; no step of the runbook."""
