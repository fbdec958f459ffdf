import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from supermask.errors import BaseMismatchError, ConfigurationError, UnknownNameError
from supermask.models import map_parameters
from supermask.models.checkpoint import backbone_names, model_type, open_checkpoint
from tiny_bases import save_tiny_base
from tiny_models import ARCHITECTURES, tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("checkpoints") / "bert", head=True)


def test_a_folder_a_file_and_shards_hold_the_same(saved: Path, tmp_path: Path) -> None:
    model = tiny_model("bert")
    sharded = tmp_path / "sharded"
    model.save_pretrained(sharded, max_shard_size="40KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    state = model.state_dict()
    for place in (saved, saved / "model.safetensors", sharded):
        checkpoint = open_checkpoint(place)
        assert checkpoint.keys() == state.keys()
        for name, tensor in state.items():
            assert torch.equal(checkpoint[name], tensor)
            assert checkpoint.shapes[name] == tuple(tensor.shape)
            assert checkpoint.dtypes[name] == str(tensor.dtype).removeprefix("torch.")
        assert checkpoint.config is not None and model_type(checkpoint.config) == "bert"
    assert len(open_checkpoint(sharded)) == len(state)


def test_a_tensor_is_the_readers_own(saved: Path) -> None:
    checkpoint = open_checkpoint(str(saved))
    name = next(iter(checkpoint))
    before = checkpoint[name]
    checkpoint[name].add_(1.0)
    assert torch.equal(checkpoint[name], before)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_names_are_those_of_the_map_whatever_head_there_is(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config is not None
    names = backbone_names(checkpoint.config)
    assert names is not None
    infos = {info.name: info for info in names.parameters.infos}
    whole = map_parameters(model)
    found = {}
    for name in checkpoint:
        info = whole.info(name) if name in whole.names or any(name in one.aliases for one in whole.infos) else None
        if info is None:
            assert names.is_buffer(name)
        elif str(info.role) == "head":
            assert names.canonical(name) is None
        else:
            own = infos[names.canonical(name) or ""]
            assert (own.role, own.block, own.shape) == (info.role, info.block, info.shape)
            found[own.name] = name
    assert len(found) == len(whole.infos) - len(whole.head)
    model.base_model.save_pretrained(tmp_path / "bare")
    bare = open_checkpoint(tmp_path / "bare")
    assert {names.canonical(name) for name in bare if not names.is_buffer(name)} == set(found)


def test_names_of_tensorflow_are_read(saved: Path) -> None:
    names = backbone_names(saved / "config.json")
    assert names is not None
    assert names.canonical("bert.embeddings.LayerNorm.gamma") == "embeddings.LayerNorm.weight"
    assert names.canonical("encoder.layer.0.output.LayerNorm.beta") == "encoder.layer.0.output.LayerNorm.bias"
    assert names.canonical("cls.predictions.bias") is None
    assert (names.hidden_size, names.initializer_range) == (32, 0.02)


def test_an_architecture_that_nobody_knows_has_no_names(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "of-tomorrow"}')
    assert backbone_names(config) is None
    for text in ("{", "[]", "{}"):
        config.write_text(text)
        with pytest.raises(ConfigurationError, match="no model's configuration"):
            backbone_names(config)


def test_places_without_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="leave revision out"):
        open_checkpoint(saved / "model.safetensors", revision="main")
    for place, message in (("nowhere", "there is no folder"), ("nowhere.safetensors", "there is no file")):
        with pytest.raises(UnknownNameError, match=message):
            open_checkpoint(tmp_path / place)
    shutil.copy(saved / "config.json", tmp_path)
    with pytest.raises(UnknownNameError, match=r"no safetensors weights: a saved model has model\.safetensors"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnknownNameError, match=r"pytorch_model\.bin, which is not read, as it may hold code"):
        open_checkpoint(tmp_path)


def test_damage_is_told(tmp_path: Path) -> None:
    model = tiny_model("bert")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    index = tmp_path / "model.safetensors.index.json"
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    content = json.loads(index.read_text())
    aside = shards[0].rename(tmp_path / "aside")
    with pytest.raises(BaseMismatchError, match=rf"lacks 1 of its {len(shards)} shards \({shards[0].name}\)"):
        open_checkpoint(tmp_path)
    save_file({"other": torch.zeros(1)}, shards[0])
    with pytest.raises(BaseMismatchError, match="which the index says it has"):
        open_checkpoint(tmp_path)
    aside.rename(shards[0])
    for broken in ("{", "[]", '{"weight_map": {"a": "../../a.safetensors"}}', '{"weight_map": {"a": 3}}'):
        index.write_text(broken)
        with pytest.raises(BaseMismatchError):
            open_checkpoint(tmp_path)
    index.write_text(json.dumps(content))
    checkpoint = open_checkpoint(tmp_path)
    name = next(iter(checkpoint))
    checkpoint.files[name].write_bytes(b"no safetensors")
    with pytest.raises(BaseMismatchError, match=f"{name} cannot be read"):
        checkpoint[name]
    with pytest.raises(BaseMismatchError, match="no safetensors file or damaged"):
        open_checkpoint(tmp_path)
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(BaseMismatchError, match="no tensor at all"):
        open_checkpoint(tmp_path / "empty.safetensors")
