"""Checks against real GLUE files, which are not part of the project: SUPERMASK_GLUE_DIR=FOLDER pytest -m data."""

import os

import pytest

from supermask.tasks import load_glue
from supermask.tasks.glue import GLUE_ROWS
from supermask.tasks.glue.folder import glue_folder

pytestmark = pytest.mark.data

SPLITS = [(row, split) for row in GLUE_ROWS for split in row.task.splits]


@pytest.fixture(scope="module")
def folder():
    if "SUPERMASK_GLUE_DIR" not in os.environ:
        pytest.skip("SUPERMASK_GLUE_DIR names no folder with the official GLUE files")
    return os.environ["SUPERMASK_GLUE_DIR"]


@pytest.mark.parametrize(
    ("row", "split"), SPLITS, ids=lambda value: value if isinstance(value, str) else value.task.name
)
def test_every_official_file_is_read_whole(folder, row, split):
    try:
        path = glue_folder(row, folder) / row.files[split]
    except ValueError:
        pytest.skip(f"no folder of {row.task.name}")
    if not path.is_file():
        pytest.skip(f"no {path.name} of {row.task.name}")
    data = load_glue(row.task, folder, splits=[split])
    examples = data[split]
    line_feeds = path.read_bytes().count(b"\n")
    headers = 0 if row.labelled_header and split not in row.task.test_splits else 1
    assert len(examples) + examples.skipped == line_feeds - headers
    official = row.task.expected_sizes[split]
    # QQP, MNLI and QNLI are often cut down; a subset has to say so.
    if row.task.name in ("cola", "sst2", "mrpc", "stsb", "rte") or split == "dev_matched":
        assert len(examples) == official
    else:
        assert (len(examples) == official) != bool(data.notes)
    if examples.labels is not None and not row.task.regression:
        assert set(examples.labels) == set(range(row.task.num_labels))
    assert len(set(examples.ids)) == len(examples)
