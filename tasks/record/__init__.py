"""§8: judge what the steps found, and write record, pages and artifacts. Nothing here acts on the workload."""
