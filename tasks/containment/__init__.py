"""§1-§3: cordon, freeze, stop, watch, and their undoing. Nothing here collects evidence or waits for a store."""
