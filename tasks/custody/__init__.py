"""Nouns and laws, pure: no Prefect, no subprocess, no network."""
