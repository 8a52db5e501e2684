"""Files among untrusted accounts: below a root, atomic, durable, ours alone. What their content means is not known."""
