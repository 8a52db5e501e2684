"""Real servers and a sample workload to rehearse on. Nothing here runs in a real evacuation."""
