"""§1-§3 undone: thaw, lift the cordon, give back what was held or paused. Nothing here freezes or ends the workload."""
