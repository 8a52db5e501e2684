"""What is collected: outcomes, names, parts, redaction, coverage. Files are read here, never written."""
