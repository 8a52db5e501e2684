"""The rehearsal: real parts, started small and thrown away afterwards."""
