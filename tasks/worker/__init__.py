"""The Prefect worker that hears of runs at once and freezes before it starts them. No step of the runbook itself."""
