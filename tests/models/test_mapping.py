import itertools

import pytest
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    T5EncoderModel,
)

from models.odd_model import odd_model
from supermask.models import architectures
from supermask.models.mapping import map_parameters
from supermask.models.roles import Role
from tiny_models import ARCHITECTURES, tiny_config, tiny_model

# Written by hand from what `named_parameters()` prints: roles, what each module owns (w, b or wb), paths. `{b}` stands
# for every block, `{role}` for the role and `{r}` for its first letter. The bias of a matrix is `bias`; what a norm
# owns is all `norm`, and so with the head.
BERT_BLOCK = """
query,key,value   wb  {base}.encoder.layer.{b}.attention.self.{role}
attention_output  wb  {base}.encoder.layer.{b}.attention.output.dense
ffn_in            wb  {base}.encoder.layer.{b}.intermediate.dense
ffn_out           wb  {base}.encoder.layer.{b}.output.dense
norm              wb  {base}.encoder.layer.{b}.attention.output.LayerNorm {base}.encoder.layer.{b}.output.LayerNorm
"""
BERT_EMBEDDINGS = """
word_embedding      w   {base}.embeddings.word_embeddings
position_embedding  w   {base}.embeddings.position_embeddings
other_embedding     w   {base}.embeddings.token_type_embeddings
norm                wb  {base}.embeddings.LayerNorm
"""
DEBERTA = """
word_embedding      w   deberta.embeddings.word_embeddings
other_embedding     w   deberta.encoder.rel_embeddings
attention_output    wb  deberta.encoder.layer.{b}.attention.output.dense
ffn_in              wb  deberta.encoder.layer.{b}.intermediate.dense
ffn_out             wb  deberta.encoder.layer.{b}.output.dense
norm                wb  deberta.embeddings.LayerNorm deberta.encoder.layer.{b}.output.LayerNorm
norm                wb  deberta.encoder.layer.{b}.attention.output.LayerNorm
head                wb  pooler.dense classifier
"""
ROBERTA = BERT_EMBEDDINGS + BERT_BLOCK + "head wb classifier.dense classifier.out_proj\n"
LLAMA = """
word_embedding    w  model.embed_tokens
query,key,value   w  model.layers.{b}.self_attn.{r}_proj
attention_output  w  model.layers.{b}.self_attn.o_proj
ffn_gate          w  model.layers.{b}.mlp.gate_proj
ffn_in            w  model.layers.{b}.mlp.up_proj
ffn_out           w  model.layers.{b}.mlp.down_proj
norm              w  model.layers.{b}.input_layernorm model.layers.{b}.post_attention_layernorm model.norm
head              w  score
"""
T5_STACK = """
query,key,value   w  transformer.{stack}.block.{b}.layer.0.SelfAttention.{r}
attention_output  w  transformer.{stack}.block.{b}.layer.0.SelfAttention.o
ffn_gate          w  transformer.{stack}.block.{b}.layer.{ffn}.DenseReluDense.wi_0
ffn_in            w  transformer.{stack}.block.{b}.layer.{ffn}.DenseReluDense.wi_1
ffn_out           w  transformer.{stack}.block.{b}.layer.{ffn}.DenseReluDense.wo
norm              w  transformer.{stack}.block.{b}.layer.0.layer_norm transformer.{stack}.final_layer_norm
norm              w  transformer.{stack}.block.{b}.layer.{ffn}.layer_norm
"""
T5_CROSS = """
query,key,value   w  transformer.decoder.block.{b}.layer.1.EncDecAttention.{r}
attention_output  w  transformer.decoder.block.{b}.layer.1.EncDecAttention.o
norm              w  transformer.decoder.block.{b}.layer.1.layer_norm
"""

TABLES = {
    "bert": (BERT_EMBEDDINGS + BERT_BLOCK).replace("{base}", "bert")
    + "pooler wb bert.pooler.dense\nhead wb classifier",
    "roberta": ROBERTA.replace("{base}", "roberta"),
    "xlm-roberta": ROBERTA.replace("{base}", "roberta"),
    "electra": (ROBERTA + "other_embedding wb electra.embeddings_project").replace("{base}", "electra"),
    "distilbert": """
        word_embedding      w   distilbert.embeddings.word_embeddings
        position_embedding  w   distilbert.embeddings.position_embeddings
        query,key,value     wb  distilbert.transformer.layer.{b}.attention.{r}_lin
        attention_output    wb  distilbert.transformer.layer.{b}.attention.out_lin
        ffn_in              wb  distilbert.transformer.layer.{b}.ffn.lin1
        ffn_out             wb  distilbert.transformer.layer.{b}.ffn.lin2
        norm                wb  distilbert.embeddings.LayerNorm distilbert.transformer.layer.{b}.sa_layer_norm
        norm                wb  distilbert.transformer.layer.{b}.output_layer_norm
        head                wb  pre_classifier classifier
        """,
    "albert": BERT_EMBEDDINGS.replace("{base}", "albert")
    + """
        other_embedding     wb  albert.encoder.embedding_hidden_mapping_in
        query,key,value     wb  albert.encoder.albert_layer_groups.0.albert_layers.{b}.attention.{role}
        attention_output    wb  albert.encoder.albert_layer_groups.0.albert_layers.{b}.attention.dense
        ffn_in              wb  albert.encoder.albert_layer_groups.0.albert_layers.{b}.ffn
        ffn_out             wb  albert.encoder.albert_layer_groups.0.albert_layers.{b}.ffn_output
        norm                wb  albert.encoder.albert_layer_groups.0.albert_layers.{b}.attention.LayerNorm
        norm                wb  albert.encoder.albert_layer_groups.0.albert_layers.{b}.full_layer_layer_norm
        pooler              wb  albert.pooler
        head                wb  classifier
        """,
    "mpnet": """
        word_embedding      w   mpnet.embeddings.word_embeddings
        position_embedding  w   mpnet.embeddings.position_embeddings
        other_embedding     w   mpnet.encoder.relative_attention_bias
        query,key,value     wb  mpnet.encoder.layer.{b}.attention.attn.{r}
        attention_output    wb  mpnet.encoder.layer.{b}.attention.attn.o
        ffn_in              wb  mpnet.encoder.layer.{b}.intermediate.dense
        ffn_out             wb  mpnet.encoder.layer.{b}.output.dense
        norm                wb  mpnet.embeddings.LayerNorm mpnet.encoder.layer.{b}.attention.LayerNorm
        norm                wb  mpnet.encoder.layer.{b}.output.LayerNorm
        head                wb  classifier.dense classifier.out_proj
        """,
    "deberta": DEBERTA
    + """
        query_key_value     w       deberta.encoder.layer.{b}.attention.self.in_proj
        bias                q_bias  deberta.encoder.layer.{b}.attention.self
        bias                v_bias  deberta.encoder.layer.{b}.attention.self
        key                 w       deberta.encoder.layer.{b}.attention.self.pos_proj
        query               wb      deberta.encoder.layer.{b}.attention.self.pos_q_proj
        """,
    "deberta-v2": DEBERTA
    + """
        norm                wb  deberta.encoder.LayerNorm
        query,key,value     wb  deberta.encoder.layer.{b}.attention.self.{role}_proj
        """,
    "modernbert": """
        word_embedding      w   model.embeddings.tok_embeddings
        query_key_value     w   model.layers.{b}.attn.Wqkv
        attention_output    w   model.layers.{b}.attn.Wo
        norm@1              w   model.layers.1.attn_norm
        norm@2              w   model.layers.2.attn_norm
        norm                w   model.embeddings.norm model.layers.{b}.mlp_norm model.final_norm
        ffn_in              w   model.layers.{b}.mlp.Wi
        ffn_out             w   model.layers.{b}.mlp.Wo
        head                w   head.dense head.norm
        head                wb  classifier
        """,
    "gpt2": """
        word_embedding      w   transformer.wte
        position_embedding  w   transformer.wpe
        query_key_value     wb  transformer.h.{b}.attn.c_attn
        attention_output    wb  transformer.h.{b}.attn.c_proj
        ffn_in              wb  transformer.h.{b}.mlp.c_fc
        ffn_out             wb  transformer.h.{b}.mlp.c_proj
        norm                wb  transformer.h.{b}.ln_1 transformer.h.{b}.ln_2 transformer.ln_f
        head                w   score
        """,
    "opt": """
        word_embedding      w   model.decoder.embed_tokens
        position_embedding  w   model.decoder.embed_positions
        other_embedding     w   model.decoder.project_in model.decoder.project_out
        query,key,value     wb  model.decoder.layers.{b}.self_attn.{r}_proj
        attention_output    wb  model.decoder.layers.{b}.self_attn.out_proj
        ffn_in              wb  model.decoder.layers.{b}.fc1
        ffn_out             wb  model.decoder.layers.{b}.fc2
        norm                wb  model.decoder.final_layer_norm model.decoder.layers.{b}.final_layer_norm
        norm                wb  model.decoder.layers.{b}.self_attn_layer_norm
        head                w   score
        """,
    "llama": LLAMA,
    "qwen2": LLAMA + "".join(f"bias b model.layers.{{b}}.self_attn.{letter}_proj\n" for letter in "qkv"),
    "qwen3": LLAMA + "norm w model.layers.{b}.self_attn.q_norm model.layers.{b}.self_attn.k_norm",
    "t5": T5_STACK.replace("{stack}", "encoder").replace("{ffn}", "1")
    + T5_STACK.replace("{stack}", "decoder").replace("{ffn}", "2").replace("{b}", "{d}")
    + T5_CROSS.replace("{b}", "{d}")
    + """
        word_embedding     w   transformer.shared
        other_embedding@0  w   transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias
        other_embedding@2  w   transformer.decoder.block.0.layer.0.SelfAttention.relative_attention_bias
        head               wb  classification_head.dense classification_head.out_proj
        """,
}  # fmt: skip
BLOCKS = {"distilbert": 3, "modernbert": 3, "albert": 1, "t5": 4}  # the others have 2


def expected(table: str, blocks: int) -> dict[str, tuple[str, int | None]]:
    """The table as {parameter name: (role, block)}."""
    result: dict[str, tuple[str, int | None]] = {}
    for line in filter(None, map(str.strip, table.splitlines())):
        roles, owns, *paths = line.split()
        roles, _, fixed = roles.partition("@")
        for role, path in itertools.product(roles.split(","), paths):
            path = path.replace("{role}", role).replace("{r}", role[0])
            places: list[tuple[str, int | None]] = [(path, int(fixed) if fixed else None)]
            if "{b}" in path:
                places = [(path.replace("{b}", str(b)), b) for b in range(blocks)]
            elif "{d}" in path:
                places = [(path.replace("{d}", str(d)), blocks + d) for d in range(blocks)]
            attributes = {"w": ["weight"], "b": ["bias"], "wb": ["weight", "bias"]}.get(owns, [owns])
            for (place, block), attribute in itertools.product(places, attributes):
                is_bias = attribute == "bias" and role not in ("norm", "head")
                result[f"{place}.{attribute}"] = ("bias" if is_bias else role, block)
    return result


def found(model: nn.Module) -> dict[str, tuple[str | None, int | None]]:
    return {info.name: (info.role and info.role.value, info.block) for info in map_parameters(model).infos}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_has_the_role_and_block_of_the_table(architecture):
    model = tiny_model(architecture)
    blocks = BLOCKS.get(architecture, 2)
    assert found(model) == expected(TABLES[architecture], 2 if architecture == "t5" else blocks)
    parameter_map = map_parameters(model)
    assert (parameter_map.unnamed, parameter_map.blocks, parameter_map.known) == ((), blocks, True)
    assert (parameter_map.model_type, parameter_map.architecture) == (architecture, type(model).__name__)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_map_agrees_with_the_model_itself(architecture):
    model = tiny_model(architecture)
    parameter_map = map_parameters(model)
    assert parameter_map.names == tuple(name for name, _ in model.named_parameters())
    for info in parameter_map.infos:
        parameter = getattr(model.get_submodule(info.module), info.attribute)
        assert parameter is model.get_parameter(info.name)
        assert info.shape == tuple(parameter.shape) and info.numel == parameter.numel()
        assert all(model.get_parameter(alias) is parameter for alias in info.aliases)
    # 2-D parameters of these architectures are all the weights of linear maps and tables; nothing else is 2-D.
    assert [info.name for info in parameter_map.infos if info.is_matrix] == [
        name for name, parameter in model.named_parameters() if parameter.dim() == 2
    ]
    # The head is what a fresh backbone has not.
    in_the_backbone = {id(parameter) for parameter in model.base_model.parameters()}
    head = tuple(name for name, parameter in model.named_parameters() if id(parameter) not in in_the_backbone)
    assert parameter_map.head == head != ()
    assert map_parameters(model.base_model).head == ()


@pytest.mark.parametrize(("architecture", "like"), [("camembert", "roberta"), ("mistral", "llama"), ("mt5", "t5")])
def test_architectures_that_share_the_names_of_another(architecture, like):
    not_settings = ("model_type", "architectures", "transformers_version", "dtype")
    settings = {key: value for key, value in tiny_config(like).to_dict().items() if key not in not_settings}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(architecture, **settings))
    assert model.config.model_type == architecture
    assert found(model) == found(tiny_model(like))
    assert map_parameters(model).known and map_parameters(model).unnamed == ()


ALBERT = "albert.encoder.albert_layer_groups"
# Settings that change what there is, with the roles and blocks that come of it.
SETTINGS = [
    (
        "deberta-v2",
        {"conv_kernel_size": 3, "share_att_key": False, "position_biased_input": True},
        """
        convolution         w   deberta.encoder.conv.conv
        bias                b   deberta.encoder.conv.conv
        norm                w   deberta.encoder.conv.LayerNorm
        position_embedding  w   deberta.embeddings.position_embeddings
        query,key           w   deberta.encoder.layer.{b}.attention.self.pos_{role}_proj
        """,
    ),
    *(
        (
            architecture,
            {"type_vocab_size": 2, "position_biased_input": True, "embedding_size": 16},
            "other_embedding w deberta.embeddings.token_type_embeddings deberta.embeddings.embed_proj",
        )
        for architecture in ("deberta", "deberta-v2")
    ),
    # Albert counts groups of distinct weights; and more than ten blocks are counted as numbers.
    (
        "albert",
        {"num_hidden_layers": 6, "num_hidden_groups": 2, "inner_group_num": 2},
        "".join(f"key@{block} w {ALBERT}.{block // 2}.albert_layers.{block % 2}.attention.key\n" for block in range(4)),
    ),
    ("t5", {"feed_forward_proj": "relu"}, "ffn_in@3 w transformer.decoder.block.1.layer.2.DenseReluDense.wi"),
    ("bert", {"num_hidden_layers": 12}, "ffn_out wb bert.encoder.layer.{b}.output.dense"),
]


@pytest.mark.parametrize(("architecture", "settings", "table"), SETTINGS)
def test_settings_change_what_there_is(architecture, settings, table):
    model = tiny_model(architecture, **settings)
    parameter_map = map_parameters(model)
    assert (parameter_map.unnamed, Role.FFN_GATE in parameter_map.roles) == ((), False)
    assert parameter_map.blocks == {"albert": 4, "bert": 12, "t5": 4}.get(architecture, 2)
    assert expected(table, parameter_map.blocks).items() <= found(model).items()
    assert not any(info.is_matrix for info in parameter_map.infos if info.role is Role.CONVOLUTION)


def test_bare_models_have_the_roles_of_their_own():
    encoder = map_parameters(T5EncoderModel(tiny_config("t5")))
    assert (encoder.blocks, encoder.unnamed, encoder.head) == (2, (), ())
    assert encoder.info("encoder.block.1.layer.0.SelfAttention.k.weight").role is Role.KEY
    mpnet = map_parameters(AutoModel.from_config(tiny_config("mpnet")))
    assert mpnet.info("pooler.dense.weight").role is Role.POOLER
    assert mpnet.unnamed == ()


def test_tied_parameters_stand_once_and_know_their_other_names():
    model = BertForMaskedLM(tiny_config("bert"))
    parameter_map = map_parameters(model)
    words = parameter_map.info("cls.predictions.decoder.weight")
    assert words.name == "bert.embeddings.word_embeddings.weight"
    assert words.role is Role.WORD_EMBEDDING
    assert words.aliases == ("cls.predictions.decoder.weight",)
    assert parameter_map.names.count(words.name) == 1
    assert "cls.predictions.transform.dense.weight" in parameter_map.head
    assert "cls.predictions.decoder.weight" not in parameter_map.names
    t5 = map_parameters(tiny_model("t5")).info("transformer.shared.weight")
    assert t5.aliases == ("transformer.encoder.embed_tokens.weight", "transformer.decoder.embed_tokens.weight")


def test_an_unknown_architecture_is_mapped_as_far_as_identity_and_type_go():
    parameter_map = map_parameters(odd_model())
    assert not parameter_map.known and parameter_map.model_type == "odd"
    assert parameter_map.info("odd.words.weight").role is Role.WORD_EMBEDDING
    assert parameter_map.info("odd.encoder.0.q.bias").role is Role.BIAS
    assert parameter_map.info("odd.encoder.0.norm.scale").role is Role.NORM
    assert parameter_map.head == ("score.weight", "score.bias")
    assert parameter_map.blocks == 5
    assert parameter_map.info("odd.encoder.2.experts.1.weight").block == 2
    assert parameter_map.info("odd.decoder.0.q.weight").block == 3
    assert parameter_map.unnamed == tuple(
        f"odd.{stack}.{block}.{module}.weight"
        for stack, blocks in (("encoder", 3), ("decoder", 2))
        for block in range(blocks)
        for module in ("q", "experts.0", "experts.1")
    )


def test_a_plain_module_is_mapped_without_transformers_attributes():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))
    parameter_map = map_parameters(model)
    assert [info.role for info in parameter_map.infos] == [None, Role.BIAS, Role.NORM, Role.NORM, None]
    assert (parameter_map.blocks, parameter_map.head, parameter_map.model_type) == (0, (), None)
    assert [info.is_matrix for info in parameter_map.infos] == [True, False, False, False, True]


def test_a_parameter_that_was_added_to_a_known_architecture_is_unnamed():
    model = tiny_model("bert")
    model.bert.encoder.layer[1].attention.self.query.adapter = nn.Linear(32, 2, bias=False)
    parameter_map = map_parameters(model)
    assert parameter_map.unnamed == ("bert.encoder.layer.1.attention.self.query.adapter.weight",)
    assert parameter_map.info(parameter_map.unnamed[0]).block == 1


def test_every_recorded_architecture_is_tested_here():
    assert set(architectures.ARCHITECTURES) == {*ARCHITECTURES, "camembert", "mistral", "mt5"}
