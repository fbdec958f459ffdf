"""PEFT knows the method, in every version of the stated range."""

import importlib
import os
import subprocess
import sys
import warnings
from enum import Enum
from pathlib import Path

import peft
import pytest
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from supermask.errors import MissingDependencyError
from supermask.interop.peft import SupermaskConfig, SupermaskModel
from supermask.interop.peft.register import PEFT_VERSIONS, _extend, check_peft_version

OLD_PEFT = os.environ.get("SUPERMASK_OLD_PEFT")


def test_peft_finds_the_method_by_its_name() -> None:
    assert PEFT_TYPE_TO_CONFIG_MAPPING["SUPERMASK"] is SupermaskConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING["SUPERMASK"] is SupermaskModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING["SUPERMASK"] == SupermaskModel.prefix
    assert PEFT_TYPE_TO_TUNER_MAPPING[SupermaskConfig().peft_type] is SupermaskModel
    # The enumeration is left alone where that works; if PEFT asks it again, this has to be looked at.
    extended = tuple(int(part) for part in peft.__version__.split(".")[:2]) < (0, 21)
    assert ("SUPERMASK" in list(peft.PeftType)) is extended


def test_versions_outside_the_range_are_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_peft_version(peft.__version__)
        check_peft_version(f"{PEFT_VERSIONS[0]}.0")
    with pytest.raises(MissingDependencyError, match=r"peft 0\.17\.1 is too old .*pip install 'peft>=0\.18,<0\.22'"):
        check_peft_version("0.17.1")
    with pytest.warns(RuntimeWarning, match=r"peft 0\.22\.0\.dev0 is newer"):
        check_peft_version("0.22.0.dev0")


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "supermask.interop.peft")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r"needs peft; pip install 'supermask\[peft\]'"):
        importlib.import_module("supermask.interop.peft")


def test_an_enumeration_takes_another_member() -> None:
    class Kind(str, Enum):
        LORA = "LORA"

    _extend(Kind, "MASK")
    _extend(Kind, "MASK")
    assert list(Kind) == ["LORA", "MASK"]
    assert Kind("MASK").name == "MASK" and isinstance(Kind("MASK"), Kind)
    assert {Kind("MASK"): 1}["MASK"] == 1


@pytest.mark.slow
@pytest.mark.skipif(OLD_PEFT is None, reason="SUPERMASK_OLD_PEFT names no folder with another version of PEFT")
def test_all_of_this_holds_with_another_version_of_peft() -> None:
    """`pip install --no-deps --target FOLDER peft==0.18.0`, and SUPERMASK_OLD_PEFT=FOLDER."""
    assert OLD_PEFT is not None
    environment = {key: value for key, value in os.environ.items() if key != "SUPERMASK_OLD_PEFT"}
    environment["PYTHONPATH"] = os.pathsep.join([OLD_PEFT, environment.get("PYTHONPATH", "")])
    program = "import peft, sys; sys.exit(not peft.__file__.startswith(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, OLD_PEFT], env=environment, check=True)
    root = Path(__file__).parents[3]
    tests = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).parent)]
    done = subprocess.run(tests, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
