"""Collect who was logged in when the evidence was taken, and who had been."""

from tasks.acquisition.collector import Collector, Command

COLLECTOR = Collector(
    name="sessions",
    answers="Who was logged in, and who had been?",
    order=34,
    sources=(
        Command(("who", "--all", "--heading"), "who.txt"),
        Command(("last", "--fulltimes", "--system", "--limit", "200"), "last.txt"),
    ),
)
