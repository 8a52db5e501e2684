"""Commands that an operator types, without a Prefect server. They parse and print; other packages do the work."""
