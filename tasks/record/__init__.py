"""§8: what the steps found, judged and told as record, pages and artifacts. Nothing here acts on the workload."""
