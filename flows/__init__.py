"""Order the steps into flows, for people and workers to start. What a step does or decides lies in tasks/."""
