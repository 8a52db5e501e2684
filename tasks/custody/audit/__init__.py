"""Laws of an audit: what an incident's objects must be to one another. Nothing here reads a store or trusts input."""
