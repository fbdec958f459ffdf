"""A hub on the loopback, and a client that knows it and has an empty cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_hub import TinyHub, connect, running_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyHub]:
    import huggingface_hub

    with running_hub() as hub:
        connect(hub, tmp_path / "client", monkeypatch)
        yield hub
    getattr(huggingface_hub, "close_session", lambda: None)()
