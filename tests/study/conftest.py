from __future__ import annotations

from pathlib import Path

import pytest

from supermask.study import load_study, study_names
from supermask.study.smoke import make_tiny_base
from tiny_records import fill


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT of 3 blocks that knows the words of the probes."""
    return make_tiny_base(tmp_path_factory.mktemp("study") / "base")


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
