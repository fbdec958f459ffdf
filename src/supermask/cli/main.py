"""The console script `supermask`."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line on this process's arguments, and exit.

    The exit code is 0 if all is done, 2 if the input was wrong or the disk is full, 130 after Ctrl-C, and 1 for a
    failure that nobody expected, or if `store verify` finds faults.
    """
    try:
        from supermask.cli.app import run
        from supermask.cli.printing import never_fail_to_encode
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(
            f"error: the command line needs {error.name}, which is not installed; run: pip install 'supermask[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    never_fail_to_encode()
    sys.exit(run(sys.argv[1:]))
