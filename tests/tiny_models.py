"""Tiny random models of every supported architecture, for tests: no download, 2 or 3 blocks, a vocabulary of 120.

Each is the real transformers class with a small configuration. Dropout stays at the architecture's own default, so
that what a test says about training holds where dropout draws from the global generator.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

VOCABULARY = 120
FIRST_WORD = 5  # ids below are special in one architecture or another

_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_SIZE = {"vocab_size": VOCABULARY, "max_position_embeddings": 64}
_BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_ENCODER = {**_SIZE, **_BLOCKS, "intermediate_size": 64}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_DECODER = {**_ENCODER, **_SPECIAL, "num_key_value_heads": 2}
_DISENTANGLED = {
    **_ENCODER,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
    "pooler_hidden_size": 32,
    "position_biased_input": False,
}

_CONFIGURATIONS: Mapping[str, Mapping[str, Any]] = {
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "distilbert": {**_SIZE, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
    "electra": {**_ENCODER, "embedding_size": 16},
    "albert": {**_ENCODER, "embedding_size": 16, "num_hidden_layers": 3, **dict.fromkeys(_DROPOUTS, 0.1)},
    "mpnet": _ENCODER,
    "deberta": {**_DISENTANGLED, "max_relative_positions": 16},
    "deberta-v2": {**_DISENTANGLED, "position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
    "modernbert": {
        **_ENCODER,
        **_SPECIAL,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "num_hidden_layers": 3,
        "local_attention": 8,
    },
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **_SPECIAL},
    "opt": {**_SIZE, **_BLOCKS, "word_embed_proj_dim": 16, "ffn_dim": 64},
    "llama": _DECODER,
    "qwen2": _DECODER,
    "qwen3": {**_DECODER, "head_dim": 8},
    "t5": {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 8,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "decoder_start_token_id": 0,
    },
}

NO_DROPOUT = dict.fromkeys(_DROPOUTS, 0.0)
"""Settings of `tiny_model("bert")` without what draws from the global generator, and in each process otherwise."""

ARCHITECTURES: tuple[str, ...] = tuple(_CONFIGURATIONS)


def tiny_config(
    architecture: str, *, num_labels: int = 2, regression: bool = False, **overrides: Any
) -> PretrainedConfig:
    """The configuration of `tiny_model`; `overrides` replace single settings."""
    settings = {**_CONFIGURATIONS[architecture], **overrides}
    problem = "regression" if regression else "single_label_classification"
    return AutoConfig.for_model(
        architecture, **settings, num_labels=1 if regression else num_labels, problem_type=problem
    )


def tiny_model(
    architecture: str, *, num_labels: int = 2, regression: bool = False, seed: int = 0, **overrides: Any
) -> PreTrainedModel:
    """A random sequence classifier in evaluation mode; the same arguments give the same weights.

    All parameters are moved off zero and one (biases, norms), so that a test which zeroes or scales them can see it.
    """
    config = tiny_config(architecture, num_labels=num_labels, regression=regression, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def checkpoint_(model: Any, *, reentrant: bool = False) -> None:
    """Turn gradient checkpointing on, by the name that transformers 5.0 has, or the one that it was given later."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that a model holds, as it is now."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors agree in dtype and in every bit, that of -0.0 included."""
    bits = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second))
    return first.dtype == second.dtype and torch.equal(*bits)


def tiny_batch(
    model: PreTrainedModel, *, batch_size: int = 4, length: int = 10, seed: int = 0, labels: bool = True
) -> dict[str, torch.Tensor]:
    """Right-padded token ids, their attention mask and labels that fit the model's head.

    Rows differ in length (the first is full) and end with the end-of-sequence id where the architecture wants one.
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(FIRST_WORD, config.vocab_size, (batch_size, length), generator=generator)
    lengths = torch.tensor([max(3, length - row % 4) for row in range(batch_size)])
    attention_mask = (torch.arange(length)[None, :] < lengths[:, None]).long()  # (batch, length)
    if config.is_encoder_decoder:  # T5's head reads the state at the end-of-sequence token
        input_ids[torch.arange(batch_size), lengths - 1] = config.eos_token_id
    input_ids = torch.where(attention_mask.bool(), input_ids, torch.tensor(config.pad_token_id))
    batch = {"input_ids": input_ids, "attention_mask": attention_mask}
    if labels:
        if config.problem_type == "regression":
            batch["labels"] = torch.rand(batch_size, generator=generator)
        else:
            batch["labels"] = torch.arange(batch_size) % config.num_labels
    return batch
