"""Packages of the evacuation, in the rows of import-linter's contract. No module lies here outside a package."""
