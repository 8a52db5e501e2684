"""§0: bad input refused, the incident opened or opened again. Nothing here touches a process of the workload."""
