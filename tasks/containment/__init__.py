"""§1-§3: cordon, freeze, stop, watch, and how to undo them. Nothing here collects evidence or waits for a store."""
