"""Settings are checked, and come back from their file."""

import json
from pathlib import Path

import pytest
from peft import PeftConfig

from supermask.errors import ConfigurationError
from supermask.interop.peft import SupermaskConfig


def test_settings_come_back_from_their_file(tmp_path: Path) -> None:
    config = SupermaskConfig(
        task_type="SEQ_CLS", target_modules=["value", "query"], modules_to_save=["a", "b", "a"], gradient="stop", seed=3
    )
    config.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    assert stored["peft_type"] == "SUPERMASK"
    assert stored["target_modules"] == ["query", "value"]
    assert stored["modules_to_save"] == ["a", "b"]
    assert "trainable_token_indices" not in stored
    loaded = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(loaded, SupermaskConfig)
    assert loaded == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_sparsity": 1.5}, "initial_sparsity"),
        ({"init_logit": -5.0}, "init_logit"),
        ({"gradient": "sideways"}, "gradient"),
        ({"init_logit": 0.0, "initial_sparsity": -1.0}, "initial_sparsity.*init_logit"),
        ({"mask_format": 2}, "format 2"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SupermaskConfig(**settings)  # type: ignore[arg-type]
