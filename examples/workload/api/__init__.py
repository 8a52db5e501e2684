"""The prediction service that an evacuation has to stop, and may have to bring back."""
