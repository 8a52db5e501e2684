"""Commands that an operator types; only `fleet` needs a Prefect server. They parse and print, others do the work."""
