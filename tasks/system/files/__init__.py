"""Files among accounts that are not trusted: below a root, atomic, durable, ours alone. Not what their content means."""
