"""Laws of a fleet: its frozen list of hosts, orders, ends and verdict. Pure; `order` is standard library alone."""
