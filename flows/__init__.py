"""The order of the steps, and what people and workers start. What a step does or decides lies in tasks/."""
