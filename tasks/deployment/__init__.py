"""What `evacuation deploy` registers with a Prefect server. Nothing here runs during an evacuation."""
