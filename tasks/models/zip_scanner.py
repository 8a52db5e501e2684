"""Look for pickles in one zip in a process of its own: `python -m tasks.models.zip_scanner`, the zip on stdin.

Prints as JSON why it may hold one; empty if it holds none.
"""

import json

from tasks.custody.models.other_format import why_zip_untrusted


def main() -> None:
    """Look into the zip on stdin and print the reason."""
    with open(0, "rb") as file:
        print(json.dumps(why_zip_untrusted(file)))


if __name__ == "__main__":
    main()
