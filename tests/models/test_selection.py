from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertForMaskedLM

from models.odd_model import odd_model
from supermask.errors import SelectionError, SupermaskError
from supermask.models.mapping import map_parameters
from supermask.models.roles import ParameterMap, Role
from supermask.models.selection import GROUPS, MATRICES, MATRICES_IF_PRESENT, select_parameters
from tiny_models import ARCHITECTURES, tiny_config, tiny_model

BLOCKS = 6
MATRIX_MODULES = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention_output": "attention.out_lin",
    "ffn_in": "ffn.lin1",
    "ffn_out": "ffn.lin2",
}


@cache
def distilbert() -> ParameterMap:
    return map_parameters(tiny_model("distilbert", n_layers=BLOCKS))


@cache
def odd() -> ParameterMap:
    return map_parameters(odd_model())


def weight(role: str, block: int) -> str:
    return f"distilbert.transformer.layer.{block}.{MATRIX_MODULES[role]}.weight"


def picked(selectors: list[str], parameter_map: ParameterMap | None = None, **options: list[str]) -> tuple[str, ...]:
    return select_parameters(selectors, parameter_map or distilbert(), **options)


def error_of(selectors: list[str], parameter_map: ParameterMap, **options: tuple[str, ...]) -> str:
    with pytest.raises(SelectionError) as caught:
        select_parameters(selectors, parameter_map, **options)
    assert isinstance(caught.value, SupermaskError) and isinstance(caught.value, LookupError)
    message = str(caught.value)
    assert "\n" not in message
    return message


def of_blocks(*blocks: int) -> tuple[str, ...]:
    return tuple(name for name in distilbert().names if any(f".layer.{block}." in name for block in blocks))


def weights(*roles: str, blocks: Iterable[int] = range(BLOCKS)) -> tuple[str, ...]:
    return tuple(weight(role, block) for block in blocks for role in roles)


HEAD = ("pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias")
EMBEDDINGS = ("distilbert.embeddings.word_embeddings.weight", "distilbert.embeddings.position_embeddings.weight")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # A role in any spelling is its weight of every block.
        ("key, keys, Keys, *.k_lin.weight", lambda: weights("key")),
        ("query, queries", lambda: weights("query")),
        ("ffn_out, ffn-outs", lambda: weights("ffn_out")),
        ("word-embeddings, word_embedding", lambda: EMBEDDINGS[:1]),
        ("head, heads", lambda: HEAD),
        # Groups are the union of their roles.
        ("matrices", lambda: weights(*MATRIX_MODULES)),
        ("attention", lambda: weights("query", "key", "value", "attention_output")),
        ("ffn", lambda: weights("ffn_in", "ffn_out")),
        ("embeddings", lambda: EMBEDDINGS),
        ("all, *", lambda: distilbert().names),
        ("encoder", lambda: tuple(name for name in distilbert().names if name.startswith("distilbert."))),
        # Sets of blocks are all that is in them.
        ("block-3", lambda: of_blocks(3)),
        ("blocks-1-3", lambda: of_blocks(1, 2, 3)),
        ("blocks-2-2", lambda: of_blocks(2)),
        ("blocks_0_5, bottom-6-blocks", lambda: of_blocks(0, 1, 2, 3, 4, 5)),
        ("top-2-blocks", lambda: of_blocks(4, 5)),
        ("top-1-block", lambda: of_blocks(5)),
        ("bottom-2-blocks", lambda: of_blocks(0, 1)),
        # A role within blocks.
        ("value@block-0", lambda: weights("value", blocks=[0])),
        ("values@top-2-blocks", lambda: weights("value", blocks=[4, 5])),
        ("ffn@blocks-1-2", lambda: weights("ffn_in", "ffn_out", blocks=[1, 2])),
        ("*.q_lin.*@block-5", lambda: (weight("query", 5), weight("query", 5)[:-6] + "bias")),
        # Patterns match whole names.
        ("*.layer.[01].ffn.lin?.weight, ffn@bottom-2-blocks", lambda: weights("ffn_in", "ffn_out", blocks=[0, 1])),
        ("classifier.weight", lambda: HEAD[2:3]),
    ],
)
def test_each_of_these_selectors_picks(words: str, expected: Callable[[], tuple[str, ...]]) -> None:
    for word in words.split(","):  # spaces around a word do not matter
        assert picked([word]) == expected()


def test_biases_are_those_of_matrices_and_norms_are_whole():
    biases = picked(["biases"])
    assert len(biases) == 6 * BLOCKS and all(name.endswith(".bias") and "norm" not in name.lower() for name in biases)
    norms = picked(["norms"])
    assert len(norms) == 2 + 4 * BLOCKS and all("norm" in name.lower() for name in norms)


WORDS = ["key", "matrices", "norms", "head", "block-2", "top-2-blocks", "ffn@blocks-1-3", "*.bias", "embeddings"]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(WORDS), min_size=1))
def test_a_list_is_the_union_of_its_selectors(words):
    one_by_one = {name for word in words for name in picked([word])}
    assert picked(words) == tuple(name for name in distilbert().names if name in one_by_one)  # once, in model order


def test_table_3_of_the_paper():
    parameter_map = map_parameters(tiny_model("bert", num_hidden_layers=12))
    excluded = select_parameters(["keys", "top-2-blocks", "word-embeddings"], parameter_map)
    assert len(excluded) == 12 + 2 * 16 - 2 + 1  # both sets hold the keys of the top two blocks


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_default_selection_exists_everywhere_and_is_made_of_matrices(architecture):
    parameter_map = map_parameters(tiny_model(architecture))
    selected = select_parameters(MATRICES, parameter_map, optional=MATRICES_IF_PRESENT)
    infos = [parameter_map.info(name) for name in selected]
    assert all(info.is_matrix for info in infos)
    assert {info.role for info in infos} <= {*GROUPS["matrices"], Role.POOLER}
    assert (Role.POOLER in {info.role for info in infos}) == (architecture in ("bert", "albert"))
    assert {info.block for info in infos if info.role is not Role.POOLER} == set(range(parameter_map.blocks))
    if architecture == "bert":  # six matrices a block, and the pooler
        assert len(selected) == 6 * 2 + 1 and selected[-1] == "bert.pooler.dense.weight"
        assert selected == select_parameters(MATRICES, parameter_map)


def test_an_encoder_decoder_counts_its_decoder_as_the_deeper_part():
    parameter_map = map_parameters(tiny_model("t5"))
    assert all(".decoder.block.1." in name for name in select_parameters(["top-1-blocks"], parameter_map))
    assert len(select_parameters(["keys@block-2"], parameter_map)) == 2  # of itself and of the encoder


def test_a_tied_parameter_is_picked_once_by_any_of_its_names():
    parameter_map = map_parameters(BertForMaskedLM(tiny_config("bert")))
    words = ("bert.embeddings.word_embeddings.weight",)
    assert select_parameters(["cls.predictions.decoder.weight"], parameter_map) == words
    assert select_parameters(["word-embeddings", "cls.predictions.decoder.weight"], parameter_map) == words


BLOCK_0 = "distilbert.transformer.layer.0"
SHARED_GATE = "a gate that shares a matrix with the input has the role ffn_in"
NO_BLOCKS = "has no set of blocks after '@'; write block-3, blocks-0-3, top-2-blocks or bottom-2-blocks there"
DISTILBERT_ROLES = (
    "roles: query, key, value, attention_output, ffn_in, ffn_out, word_embedding, position_embedding, norm, bias, "
    "head; groups: matrices, attention, ffn, embeddings, encoder, all; blocks: 0-5; "
    "or a pattern such as '*.attention.*'"
)


@pytest.mark.parametrize(
    ("selector", "complaint"),
    [
        ("querry", "matches no role of {model}; did you mean query"),
        ("zzz", "matches no role of {model}"),
        ("matrixes", "matches no role of {model}; did you mean matrices"),
        ("blocks", "matches no role of {model}; did you mean block-0"),
        ("pooler", "picks nothing: {model} has no such parameters"),
        ("ffn_gate", "picks nothing: {model} has no such parameters; " + SHARED_GATE),
        ("block-6", "is outside the model: {model} has 6 blocks, 0-5"),
        ("blocks-4-6", "is outside the model: {model} has 6 blocks, 0-5"),
        ("blocks-3-1", "ends before it begins; write blocks-1-3"),
        ("top-9-blocks", "asks for 9 blocks, but {model} has 6 blocks, 0-5"),
        ("top-0-blocks", "asks for 0 blocks, but {model} has 6 blocks, 0-5"),
        ("key@block-7", "'block-7' is outside the model: {model} has 6 blocks, 0-5"),
        ("word_embedding@block-0", "picks nothing: block-0 holds nothing that 'word_embedding' picks"),
        ("key@value", NO_BLOCKS),
        ("key@", NO_BLOCKS),
        ("@block-0", "has nothing before '@'; write ROLE@BLOCKS, as in value@block-0"),
        ("", "a selector is empty"),
        ("*.qlin.*", "matches no parameter of {model}"),
        ("clasifier.weight", "matches no parameter of {model}; did you mean classifier.weight"),
        (BLOCK_0, f"matches no parameter of {{model}}; did you mean {BLOCK_0}.*"),
    ],
)
def test_a_selector_without_effect_says_what_there_is(selector, complaint):
    complaint = complaint.format(model="DistilBertForSequenceClassification")
    if selector and not complaint.startswith("'"):
        complaint = f"'{selector}' {complaint}"
    if "matches no parameter" in complaint:
        complaint = f"the pattern {complaint}"
    end = "? " if "did you mean" in complaint else "; "
    assert error_of([selector], distilbert()) == complaint + end + DISTILBERT_ROLES


def test_all_faults_are_reported_together_and_what_there_is_once():
    message = error_of(["keys", "querry", "block-6", "*.nope.*", "pooler"], distilbert())
    assert message.count("roles:") == 1
    for part in ("'querry'", "'block-6'", "'*.nope.*'", "'pooler'"):
        assert part in message
    assert "'keys'" not in message


def test_an_empty_list_and_a_string_are_errors():
    assert error_of([], distilbert()).startswith("the selection is empty: no selector was given")
    assert error_of(["pooler"], distilbert(), optional=("pooler",)).startswith("the selection is empty")
    assert "received the string 'keys'; write ['keys']" in error_of("keys", distilbert())


def test_an_optional_selector_may_be_absent_but_not_misspelt_and_adds_nothing():
    keys = picked(["keys"])
    assert picked(["keys", "pooler"], optional=["pooler"]) == keys
    assert picked(["keys", "Pooler"], optional=["pooler"]) == keys
    assert "'pooler' picks nothing" in error_of(["keys", "pooler"], distilbert(), optional=("ffn_gate",))
    assert "'poler' matches no role" in error_of(["keys", "poler"], distilbert(), optional=("poler",))
    assert "'block-6' is outside" in error_of(["keys", "block-6"], distilbert(), optional=("block-6",))
    bert = map_parameters(tiny_model("bert"))  # which has a pooler
    assert select_parameters(["keys"], bert, optional=["pooler"]) == select_parameters(["keys"], bert)


def test_a_fused_matrix_explains_why_there_are_no_keys():
    message = error_of(["keys"], map_parameters(tiny_model("gpt2")))
    assert message.startswith(
        "'keys' picks nothing: GPT2ForSequenceClassification has no such parameters, because query, key and value "
        "are one matrix there, whose role is query_key_value; roles: query_key_value, "
    )
    assert message.endswith("blocks: 0-1; or a pattern such as '*.attn.*'")


def test_one_block_is_said_in_the_singular():
    message = error_of(["top-2-blocks"], map_parameters(tiny_model("albert")))
    assert "asks for 2 blocks, but AlbertForSequenceClassification has 1 block, 0; " in message
    assert "blocks: 0; or" in message


@pytest.mark.parametrize("selector", ["key", "matrices", "attention", "ffn", "embeddings", "pooler", "query@block-0"])
def test_an_unknown_architecture_says_so_and_which_patterns_work(selector):
    message = error_of([selector], odd())
    assert message == (
        f"'{selector.partition('@')[0]}' cannot be found by role: the architecture of OddForSequenceClassification "
        "(model_type 'odd') is unknown; select by pattern instead: 'odd.encoder.*.q.weight', "
        "'odd.encoder.*.experts.*.weight', 'odd.decoder.*.q.weight', 'odd.decoder.*.experts.*.weight'; "
        "roles: word_embedding, norm, bias, head; groups: encoder, all; blocks: 0-4; or a pattern such as '*.q.*'"
    )


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("odd.encoder.*.experts.*.weight", "odd.encoder.[012].experts.[01].weight"),
        ("word-embeddings", "odd.words.weight"),
        ("head", "score.*"),
        ("top-1-blocks", "odd.decoder.1.*"),
        ("encoder", "odd.*"),
        ("all", "*"),
        ("*.q.*@block-0", "odd.encoder.0.q.*"),
    ],
)
def test_an_unknown_architecture_is_selected_by_pattern_block_and_what_is_known(selector, expected):
    found = picked([selector], odd())
    assert found == tuple(name for name in odd().names if fnmatchcase(name, expected)) != ()
    assert picked([selector, "pooler"], odd(), optional=["pooler"]) == found


def test_a_model_without_blocks_or_names_still_answers():
    parameter_map = map_parameters(nn.Linear(3, 2, bias=False))
    assert select_parameters(["*"], parameter_map) == ("weight",)
    assert error_of(["block-0"], parameter_map) == (
        "'block-0' picks nothing: Linear has no blocks; groups: encoder, all; or a pattern such as '*weight'"
    )
    assert "the architecture of Linear is unknown; select by pattern instead: 'weight'; " in error_of(
        ["key"], parameter_map
    )


def test_the_example_pattern_of_an_error_matches_something():
    for architecture in ARCHITECTURES:
        parameter_map = map_parameters(tiny_model(architecture))
        pattern = error_of(["zzz"], parameter_map).rpartition("such as '")[2].removesuffix("'")
        assert select_parameters([pattern], parameter_map)


def test_a_name_that_is_no_parameter_cannot_be_looked_up():
    with pytest.raises(SelectionError, match=r"'nope' is no parameter of DistilBertForSequenceClassification"):
        distilbert().info("nope")


def test_what_the_room_offers():
    import supermask.models as room

    for name in room.__all__:
        assert getattr(room, name) is not None
    assert dir(room) == sorted(room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        room.nothing  # noqa: B018
