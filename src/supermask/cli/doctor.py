"""`supermask doctor`: what this machine offers, and what is wrong with it."""

from __future__ import annotations

import typer

from supermask.cli.options import AsJson
from supermask.cli.printing import answer

__all__ = ["EXAMPLES", "doctor"]

EXAMPLES = ("supermask doctor", "supermask doctor --json")


def doctor(as_json: AsJson = False) -> None:
    """Show versions, devices and kernels, and check that kernels agree.

    The exit code is 1 if there is a fault; each comes with its remedy.
    """
    from dataclasses import asdict

    from supermask.training.diagnosis import diagnose

    diagnosis = diagnose()
    told: list[str] = []
    topic = ""
    width = max(len(finding.name) for finding in diagnosis.findings)
    for finding in diagnosis.findings:
        if finding.topic != topic:
            topic = finding.topic
            told += ["", topic] if told else [topic]
        mark = {"fine": " ", "worse": "-", "fault": "!"}[finding.state]
        told.append(f"{mark} {finding.name.ljust(width)}  {finding.value}")
        told += [f"  {' ' * width}  {finding.remedy}"] if finding.remedy else []
    faults = sum(finding.state == "fault" for finding in diagnosis.findings)
    told += ["", f"{faults} fault{'s' if faults > 1 else ''}, marked !" if faults else "no fault"]
    document = {"sound": diagnosis.sound, "findings": [asdict(finding) for finding in diagnosis.findings]}
    answer(document, told, as_json=as_json)
    if not diagnosis.sound:
        raise typer.Exit(1)
