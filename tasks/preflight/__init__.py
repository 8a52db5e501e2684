"""§0: check the input, open an incident or reopen one. Nothing here touches a process of the workload."""
