"""Collect who was logged in when the evidence was taken, and who had been."""

from tasks.acquisition.collector import Collector, ProgramOutput

COLLECTOR = Collector(
    name="sessions",
    answers="Who was logged in, and who had been?",
    order=34,
    sources=(
        ProgramOutput(("who", "--all", "--heading"), "who.txt"),
        ProgramOutput(("last", "--fulltimes", "--system", "--limit", "200"), "last.txt"),
    ),
)
