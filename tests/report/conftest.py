from pathlib import Path

import pytest

from supermask.study import load_study, study_names
from tiny_records import fill


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up records of all studies, seeds 0 to 2; no QNLI, and RTE without the sparsest mask. Not to be changed."""
    folder = tmp_path_factory.mktemp("records") / "minilm-l6"
    fill(
        folder,
        [load_study(name) for name in study_names()],
        leave_out=lambda run: (
            run.task == "qnli" or run.seed > 2 or (run.task, run.label) == ("rte", "supermask-init90-seed0")
        ),
    )
    return folder
