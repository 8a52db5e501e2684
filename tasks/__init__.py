"""Verbs, a module a step of the runbook."""
