"""State of the workload's repository. git runs with the owner's rights: a repository can make it run code."""

from tasks.collectors.collector import Collector, Command

_GIT = (
    *("git", "--git-dir=.git", "--work-tree=.", "--no-optional-locks", "--no-pager"),
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never"),
)

COLLECTOR = Collector(
    name="git",
    answers="Which code was checked out, and what was changed by hand?",
    order=52,
    sources=(
        Command((*_GIT, "log", "-1", "--no-show-signature", "--format=fuller"), "git_commit.txt", as_owner=True),
        Command((*_GIT, "status", "--porcelain=v1", "--branch"), "git_status.txt", as_owner=True),
        Command((*_GIT, "diff", "--no-ext-diff", "--no-textconv", "HEAD"), "git_diff.txt", as_owner=True),
    ),
)
