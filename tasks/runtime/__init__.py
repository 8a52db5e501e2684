"""Connect a run to Prefect: steps, context, artifacts, states. No step of the runbook itself."""
