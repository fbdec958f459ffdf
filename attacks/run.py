"""Run every attack and say what came of it: `PYTHONPATH=.:tests python -m attacks.run`, from the root.

`--table` prints the table of README.md instead.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import time
from pathlib import Path

from attacks.attack import Attack
from attacks.document_attacks import DOCUMENT_ATTACKS
from attacks.folder_attacks import FOLDER_ATTACKS
from attacks.header_attacks import HEADER_ATTACKS
from attacks.payload_attacks import PAYLOAD_ATTACKS

__all__ = ["ATTACKS", "fault_of", "table"]

ATTACKS: tuple[Attack, ...] = (*HEADER_ATTACKS, *DOCUMENT_ATTACKS, *PAYLOAD_ATTACKS, *FOLDER_ATTACKS)


def fault_of(attack: Attack, folder: Path) -> str:
    """What is not as it must be; empty if the attack fails as it should.

    Args:
        attack: that is run.
        folder: an empty one.
    """
    outcome, message = attack.run(folder)
    if outcome not in attack.outcome.split("|"):
        return f"{outcome!r} and not {attack.outcome!r}: {message}"
    if not re.search(attack.words, message):
        return f"the message has nothing of {attack.words!r}: {message}"
    return ""


def table() -> str:
    """The attacks in Markdown."""
    lines = ["| attack | what is tried | what becomes of it |", "|---|---|---|"]
    lines += [f"| {attack.name} | {attack.what} | {attack.outcome.replace('|', ' or ')} |" for attack in ATTACKS]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table of README.md")
    if parser.parse_args().table:
        print(table())
        return
    faults = 0
    for attack in ATTACKS:
        folder = Path(tempfile.mkdtemp())
        start = time.process_time()
        try:
            fault = fault_of(attack, folder)
        except AssertionError as error:
            fault = str(error)
        finally:
            shutil.rmtree(folder)
        faults += bool(fault)
        print(f"{time.process_time() - start:6.3f} s  {attack.name}: {fault or attack.outcome}")
    print(f"{len(ATTACKS)} attacks, {faults} of them with another outcome than stated")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
