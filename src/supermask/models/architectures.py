"""The architectures known by name: for each `config.model_type`, where its blocks are and what its modules do.

This is data. A row says which paths hold the blocks (`stacks`: one pattern a stack, whose groups number the block),
and which role the weight of each module has, by its exact path inside a block (`inside`) or outside the blocks
(`outside`), counted from the backbone. A key that ends in a parameter other than `weight` is that parameter's own
path. Word embeddings, norms, biases and heads are found by identity and type and need no row. To add an architecture,
add a row here, a tiny configuration to `tests/tiny_models.py`, and its table to `tests/models/test_mapping.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import final

from supermask.models.roles import Role

__all__ = ["ARCHITECTURES", "Architecture"]


@final
@dataclass(frozen=True)
class Architecture:
    """Where the blocks of an architecture are and what its modules do.

    Args:
        stacks: Patterns of block paths, in the order in which blocks are counted; their groups are the block's numbers.
        inside: Role by path within a block.
        outside: Role by path within the backbone, for what stands outside the blocks.
    """

    stacks: tuple[str, ...]
    inside: Mapping[str, Role]
    outside: Mapping[str, Role] = field(default_factory=dict)


_BERT = Architecture(
    stacks=(r"encoder\.layer\.(\d+)",),
    inside={
        "attention.self.query": Role.QUERY,
        "attention.self.key": Role.KEY,
        "attention.self.value": Role.VALUE,
        "attention.output.dense": Role.ATTENTION_OUTPUT,
        "intermediate.dense": Role.FFN_IN,
        "output.dense": Role.FFN_OUT,
    },
    outside={
        "embeddings.position_embeddings": Role.POSITION_EMBEDDING,
        "embeddings.token_type_embeddings": Role.OTHER_EMBEDDING,
        "embeddings_project": Role.OTHER_EMBEDDING,  # ELECTRA, where embeddings are narrower than the blocks
        "pooler.dense": Role.POOLER,
    },
)

_DISTILBERT = Architecture(
    stacks=(r"transformer\.layer\.(\d+)",),
    inside={
        "attention.q_lin": Role.QUERY,
        "attention.k_lin": Role.KEY,
        "attention.v_lin": Role.VALUE,
        "attention.out_lin": Role.ATTENTION_OUTPUT,
        "ffn.lin1": Role.FFN_IN,
        "ffn.lin2": Role.FFN_OUT,
    },
    outside={"embeddings.position_embeddings": Role.POSITION_EMBEDDING},
)

_ALBERT = Architecture(
    # A group's weights serve many layers of the computation; each group's inner layer is one block of distinct weights.
    stacks=(r"encoder\.albert_layer_groups\.(\d+)\.albert_layers\.(\d+)",),
    inside={
        "attention.query": Role.QUERY,
        "attention.key": Role.KEY,
        "attention.value": Role.VALUE,
        "attention.dense": Role.ATTENTION_OUTPUT,
        "ffn": Role.FFN_IN,
        "ffn_output": Role.FFN_OUT,
    },
    outside={
        "embeddings.position_embeddings": Role.POSITION_EMBEDDING,
        "embeddings.token_type_embeddings": Role.OTHER_EMBEDDING,
        "encoder.embedding_hidden_mapping_in": Role.OTHER_EMBEDDING,
        "pooler": Role.POOLER,
    },
)

_MPNET = Architecture(
    stacks=(r"encoder\.layer\.(\d+)",),
    inside={
        "attention.attn.q": Role.QUERY,
        "attention.attn.k": Role.KEY,
        "attention.attn.v": Role.VALUE,
        "attention.attn.o": Role.ATTENTION_OUTPUT,
        "intermediate.dense": Role.FFN_IN,
        "output.dense": Role.FFN_OUT,
    },
    outside={
        "embeddings.position_embeddings": Role.POSITION_EMBEDDING,
        "encoder.relative_attention_bias": Role.OTHER_EMBEDDING,
        "pooler.dense": Role.POOLER,
    },
)

# Disentangled attention: the projections of relative positions are queries and keys like those of the contents.
_DEBERTA = Architecture(
    stacks=(r"encoder\.layer\.(\d+)",),
    inside={
        "attention.self.in_proj": Role.QUERY_KEY_VALUE,
        "attention.self.q_bias": Role.BIAS,
        "attention.self.v_bias": Role.BIAS,
        "attention.self.pos_proj": Role.KEY,
        "attention.self.pos_q_proj": Role.QUERY,
        "attention.output.dense": Role.ATTENTION_OUTPUT,
        "intermediate.dense": Role.FFN_IN,
        "output.dense": Role.FFN_OUT,
    },
    outside={
        "embeddings.position_embeddings": Role.POSITION_EMBEDDING,
        "embeddings.token_type_embeddings": Role.OTHER_EMBEDDING,
        "embeddings.embed_proj": Role.OTHER_EMBEDDING,
        "encoder.rel_embeddings": Role.OTHER_EMBEDDING,
    },
)

_DEBERTA_V2 = Architecture(
    stacks=(r"encoder\.layer\.(\d+)",),
    inside={
        "attention.self.query_proj": Role.QUERY,
        "attention.self.key_proj": Role.KEY,
        "attention.self.value_proj": Role.VALUE,
        "attention.self.pos_key_proj": Role.KEY,
        "attention.self.pos_query_proj": Role.QUERY,
        "attention.output.dense": Role.ATTENTION_OUTPUT,
        "intermediate.dense": Role.FFN_IN,
        "output.dense": Role.FFN_OUT,
    },
    outside={**_DEBERTA.outside, "encoder.conv.conv": Role.CONVOLUTION},
)

_MODERNBERT = Architecture(
    stacks=(r"layers\.(\d+)",),
    inside={
        "attn.Wqkv": Role.QUERY_KEY_VALUE,
        "attn.Wo": Role.ATTENTION_OUTPUT,
        "mlp.Wi": Role.FFN_IN,
        "mlp.Wo": Role.FFN_OUT,
    },
)

_GPT2 = Architecture(
    stacks=(r"h\.(\d+)",),
    inside={
        "attn.c_attn": Role.QUERY_KEY_VALUE,
        "attn.c_proj": Role.ATTENTION_OUTPUT,
        "mlp.c_fc": Role.FFN_IN,
        "mlp.c_proj": Role.FFN_OUT,
    },
    outside={"wpe": Role.POSITION_EMBEDDING},
)

_OPT = Architecture(
    stacks=(r"decoder\.layers\.(\d+)",),
    inside={
        "self_attn.q_proj": Role.QUERY,
        "self_attn.k_proj": Role.KEY,
        "self_attn.v_proj": Role.VALUE,
        "self_attn.out_proj": Role.ATTENTION_OUTPUT,
        "fc1": Role.FFN_IN,
        "fc2": Role.FFN_OUT,
    },
    outside={
        "decoder.embed_positions": Role.POSITION_EMBEDDING,
        "decoder.project_in": Role.OTHER_EMBEDDING,
        "decoder.project_out": Role.OTHER_EMBEDDING,
    },
)

_LLAMA = Architecture(
    stacks=(r"layers\.(\d+)",),
    inside={
        "self_attn.q_proj": Role.QUERY,
        "self_attn.k_proj": Role.KEY,
        "self_attn.v_proj": Role.VALUE,
        "self_attn.o_proj": Role.ATTENTION_OUTPUT,
        "mlp.gate_proj": Role.FFN_GATE,
        "mlp.up_proj": Role.FFN_IN,
        "mlp.down_proj": Role.FFN_OUT,
    },
)

# The place of a layer within a block depends on the stack: a decoder block has its cross attention in between.
_T5 = Architecture(
    stacks=(r"encoder\.block\.(\d+)", r"decoder\.block\.(\d+)"),
    inside={
        **{
            f"layer.{place}.{attention}.{letter}": role
            for place, attention in ((0, "SelfAttention"), (1, "EncDecAttention"))
            for letter, role in (
                ("q", Role.QUERY),
                ("k", Role.KEY),
                ("v", Role.VALUE),
                ("o", Role.ATTENTION_OUTPUT),
                ("relative_attention_bias", Role.OTHER_EMBEDDING),
            )
        },
        **{
            f"layer.{place}.DenseReluDense.{module}": role
            for place in (1, 2)
            for module, role in (
                ("wi", Role.FFN_IN),
                ("wi_0", Role.FFN_GATE),  # the one that goes through the activation
                ("wi_1", Role.FFN_IN),
                ("wo", Role.FFN_OUT),
            )
        },
    },
)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "albert": _ALBERT,
        "bert": _BERT,
        "camembert": _BERT,
        "deberta": _DEBERTA,
        "deberta-v2": _DEBERTA_V2,
        "distilbert": _DISTILBERT,
        "electra": _BERT,
        "gpt2": _GPT2,
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "modernbert": _MODERNBERT,
        "mpnet": _MPNET,
        "mt5": _T5,
        "opt": _OPT,
        "qwen2": _LLAMA,
        "qwen3": _LLAMA,
        "roberta": _BERT,
        "t5": _T5,
        "xlm-roberta": _BERT,
    }
)
"""Every known architecture by its `config.model_type`."""
