"""Begin the command `evacuation`: a Ctrl-C during its first imports is answered like any later one."""

import os
import signal


def main() -> None:
    """Import what freezes, then run the command that was typed; a Ctrl-C meanwhile waits until it can be answered."""
    early = list[int]()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, _: early.append(number))
    from tasks.system.programs import trusted_path

    os.environ["PATH"] = trusted_path()
    from flows.cli import main as run_typed

    run_typed(early)


if __name__ == "__main__":
    main()
