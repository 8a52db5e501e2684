"""Run a training while holding the cordon's lock, for the flow `train`. Nothing here is part of an evacuation."""
