"""The command's first door: `tunewright`, and `python -m tunewright` for torchrun and for environments without scripts."""

import os
import signal
from typing import Any


def main() -> None:
    """Run a verb and exit. A signal that comes before the command line has been imported ends it at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from tunewright.cli.main import main as command

    command()


def _end(number: int, _frame: Any) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
