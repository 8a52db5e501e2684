"""The command `evacuation`: freeze before imports, parse, run a flow by hand, show its phases. No flow and no step."""
