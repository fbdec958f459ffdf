"""`python -m supermask` is the command `supermask`."""

from __future__ import annotations

from supermask.cli.main import main

if __name__ == "__main__":
    main()
