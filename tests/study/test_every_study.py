"""Every study end to end on a tiny model and two probes: that all parts fit together; the numbers mean nothing."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from supermask.report import write_report
from supermask.report.figures import study_figure, write_study_figure
from supermask.report.results import collect
from supermask.report.tables import study_table, table_csv, table_html, table_markdown
from supermask.study import Arm, RecordStore, Study, load_study, overridden, study_names
from tiny_studies import carried_out, changed, tiny_plan

PROBE_OF = {"mrpc": "probe-paraphrase", "stsb": "probe-similarity"}
CONFIG: dict[str, Any] = {
    "max_steps": 3,
    "batch_size": 8,
    "head_learning_rate": 0.01,
    "max_length": 24,
    "precision": "fp32",
    "logging_steps": 1,
}


def tiny(name: str, base: Path) -> Study:
    """The same arms on probes, with few steps, seeds and draws; mask logits start near 0, so that some cross it."""
    study = load_study(name)
    tasks = [PROBE_OF[task] for task in study.tasks if task in PROBE_OF]
    small = overridden(study, base=str(base), tasks=tasks, seeds=study.seeds[:2])
    arms = []
    for arm in study.arms:
        loose = {"init_logit": 0.1} if arm.method["kind"] == "supermask" else {}
        arms.append(Arm(**{**dict(arm), "method": {**arm.method, **loose}}))
    return changed(small, draws=2, config={**study.config, **CONFIG}, arms=tuple(arms))


@pytest.mark.slow
def test_every_study_is_run_measured_and_shown(tiny_base: Path, tmp_path: Path) -> None:
    studies = [tiny(name, tiny_base) for name in study_names()]
    report, said = carried_out(tiny_plan(studies, tmp_path, limit=24, dev_limit=24))
    assert len(report.completed) == 54 and report.failed == () and report.measured.faults == (), said
    store = RecordStore(tmp_path)
    assert len(store.records) == 54 and store.skipped == ()
    for study in studies:
        results = collect(study, store, more_seeds=False)
        assert results.missing == ()
        assert {cell.spec.arm for cell in results.cells} == {arm.name for arm in study.arms}
        assert len({cell.spec.seed for cell in results.cells}) == (2 if study.name in ("table3", "appendix-a") else 1)
        for cell in results.cells:
            assert cell.record is not None and cell.measures is not None
            assert cell.record.inputs.data["train"].examples == 24 and cell.record.steps == 3
            masked = cell.spec.method["kind"] != "freezing"
            assert (cell.measures.zeroed is not None) == masked
            assert bool(cell.record.sampled_scores) == (cell.spec.method["kind"] == "supermask")
            if study.name == "figure9":  # the masks have moved
                assert cell.record.delta is not None
                assert cell.record.delta.sparsity != pytest.approx(cell.spec.method["initial_sparsity"], abs=1e-4)
        assert len(results.pairs) == (study.name == "figure7")
        if study.shows == "figure":
            svg, png, _ = write_study_figure(study_figure(results), tmp_path / "figures")
            assert ElementTree.parse(svg).getroot().tag.endswith("svg")
            assert png.read_bytes().startswith(b"\x89PNG")
        else:
            table = study_table(results)
            assert len(table_csv(table).splitlines()) > 1, study.name
            assert table_markdown(table).count("|") > 8 and "<table" in table_html(table)
    write_report(studies, store, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(study.paper in page or study.title in page for study in studies)
