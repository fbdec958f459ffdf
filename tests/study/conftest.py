from pathlib import Path

import pytest

from tiny_studies import make_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT of 3 blocks that knows the words of the probes."""
    return make_tiny_base(tmp_path_factory.mktemp("study") / "base")
