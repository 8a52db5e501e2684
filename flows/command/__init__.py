"""The command `evacuation`: freeze before anything is imported, parse, run a flow by hand, show its phases."""
