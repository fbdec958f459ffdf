"""A classifier of an architecture that no table knows: word embedding, two stacks of blocks, a norm of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class OddConfig(PretrainedConfig):
    model_type = "odd"


class OddRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.scale * states / (states.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


class OddLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)
        self.experts = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(2)])
        self.norm = OddRMSNorm()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        mixed = torch.tanh(self.q(states)) + states.mean(1, keepdim=True)
        return self.norm(states + sum(expert(mixed) for expert in self.experts))


class OddModel(PreTrainedModel):
    config_class = OddConfig
    base_model_prefix = "odd"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(20, 8)
        self.encoder = nn.ModuleList([OddLayer() for _ in range(3)])
        self.decoder = nn.ModuleList([OddLayer() for _ in range(2)])
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        states = self.words(input_ids)
        for layer in (*self.encoder, *self.decoder):
            states = layer(states)
        return states  # (batch, length, 8)


class OddForSequenceClassification(PreTrainedModel):
    config_class = OddConfig
    base_model_prefix = "odd"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.odd = OddModel(config)
        self.score = nn.Linear(8, 2)
        self.post_init()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, labels: Any = None, **_: Any
    ) -> SequenceClassifierOutput:
        logits = self.score(self.odd(input_ids).mean(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def odd_model(seed: int = 0) -> OddForSequenceClassification:
    """The classifier with random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return OddForSequenceClassification(OddConfig(num_labels=2)).eval()
