"""A classifier of an architecture that no table knows: word embedding, two stacks of blocks, a norm of its own."""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class OddConfig(PretrainedConfig):
    model_type = "odd"


class OddRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))


class OddLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8)
        self.experts = nn.ModuleList([nn.Linear(8, 8, bias=False) for _ in range(2)])
        self.norm = OddRMSNorm()


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


class OddForSequenceClassification(PreTrainedModel):
    config_class = OddConfig
    base_model_prefix = "odd"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.odd = OddModel(config)
        self.score = nn.Linear(8, 2)
        self.post_init()


def odd_model() -> OddForSequenceClassification:
    """The classifier with random weights."""
    return OddForSequenceClassification(OddConfig(num_labels=2))
