"""Collected evidence: outcomes, names, parts, redaction, coverage. Reads files, and writes none."""
