"""Time and memory of `supermask study report` on a store of many records, which are made up.

    python benchmarks/report.py --output benchmarks/results/report.json

The records are those of all studies, with as many seeds as it takes, each with its measures, and pairs of all masks of
one seed. The report is made in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def fill_store(folder: Path, records: int) -> int:
    from supermask.study import load_study, overridden, study_names
    from tiny_records import fill

    studies = [load_study(name) for name in study_names()]
    made = 0
    seeds = 1
    while made < records:
        wanted = [overridden(study, seeds=range(seeds)) for study in studies]
        made = min(records, fill(folder, wanted))
        seeds += 1
    for path in sorted(folder.glob("*/*-seed*.measures.json"), key=lambda path: path.name)[records:]:
        path.unlink()
        path.with_name(path.name.replace(".measures", "")).unlink()
    return made


def measure(folder: Path, output: Path) -> dict[str, float]:
    """Seconds and mebibytes of one report, in this process."""
    spent = time.process_time()
    start = time.perf_counter()
    from supermask.report import write_report
    from supermask.study import RecordStore, load_study, study_names

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import_seconds = time.perf_counter() - start
    store = RecordStore(folder)
    scan_seconds = time.perf_counter() - start - import_seconds
    size = write_report([load_study(name) for name in study_names()], store, output)
    return {
        "records": len(store.records),
        "import_seconds": import_seconds,
        "scan_seconds": scan_seconds,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - spent,
        "imported_mebibytes": imported,
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "page_bytes": size,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500, help="at least so many")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--folder", type=Path, help="where the records go; a temporary folder by default")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.measure.parent / "report.html")))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)) / "minilm-l6"
        fill_store(folder, arguments.records)
        command = [sys.executable, __file__, "--measure", str(folder)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if arguments.output is not None:
        from supermask.training.provenance import current_environment

        record = {"environment": current_environment().model_dump(), **found}
        arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(
        f"{found['records']} records: {found['seconds']:.1f} s, of which importing {found['import_seconds']:.1f} s and "
        f"reading records {found['scan_seconds']:.1f} s; {found['processor_seconds']:.1f} s of a processor"
    )
    print(
        f"at most {found['peak_mebibytes']:.0f} MiB, {found['imported_mebibytes']:.0f} MiB after importing; "
        f"a page of {found['page_bytes'] / 1e6:.1f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
