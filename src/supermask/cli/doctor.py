"""`supermask doctor`: what this machine offers, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from supermask.cli.options import AsJson

if TYPE_CHECKING:
    from supermask.training.diagnosis import Diagnosis

__all__ = ["EXAMPLES", "doctor"]

EXAMPLES = ("supermask doctor", "supermask doctor --json")


def doctor(as_json: AsJson = False) -> None:
    """Show versions, devices and kernels, and check that kernels agree.

    The exit code is 1 if there is a fault; each comes with its remedy.
    """
    from supermask.training.diagnosis import diagnose

    diagnosis = diagnose()
    _report(diagnosis, as_json=as_json)
    if not diagnosis.sound:
        raise typer.Exit(1)


def _report(diagnosis: Diagnosis, *, as_json: bool) -> None:
    from dataclasses import asdict

    from supermask.cli.printing import print_json, print_lines

    if as_json:
        findings = [asdict(finding) for finding in diagnosis.findings]
        print_json({"sound": diagnosis.sound, "findings": findings})
        return
    topic = ""
    width = max(len(finding.name) for finding in diagnosis.findings)
    for finding in diagnosis.findings:
        if finding.topic != topic:
            topic = finding.topic
            print_lines(["", topic] if finding is not diagnosis.findings[0] else [topic])
        mark = {"fine": " ", "worse": "-", "fault": "!"}[finding.state]
        print_lines([f"{mark} {finding.name.ljust(width)}  {finding.value}"])
        if finding.remedy:
            print_lines([f"  {' ' * width}  {finding.remedy}"])
    faults = sum(finding.state == "fault" for finding in diagnosis.findings)
    print_lines(["", "no fault" if not faults else f"{faults} fault{'s' if faults > 1 else ''}, marked !"])
