"""Start a program at raised priority: the former name of `tasks.system.priority`, which server units still start."""

import sys

from tasks.system.priority import main

if __name__ == "__main__":
    main(sys.argv[1:])
