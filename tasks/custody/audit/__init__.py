"""Rules of an audit: how an incident's objects must agree. Accesses no store, and trusts no input."""
