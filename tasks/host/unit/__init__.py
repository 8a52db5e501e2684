"""Services of systemd: what keeps them down, and their twin. Nothing decides whose they are."""
