"""§2, §3 for containers: pause them, end them, watch for what comes back. The engine itself is tasks/host/container."""
