import dataclasses

import pytest

from supermask.models.roles import ParameterInfo, ParameterMap, Role

INFOS = (
    ParameterInfo("layers.0.k.weight", Role.KEY, 0, (8, 4), "layers.0.k", "weight", True, ("tied.weight",)),
    ParameterInfo("layers.0.k.bias", Role.BIAS, 0, (8,), "layers.0.k", "bias", False),
    ParameterInfo("layers.1.gate", None, 1, (), "layers.1", "gate", False),
    ParameterInfo("out.weight", Role.HEAD, None, (2, 8), "out", "weight", True),
)
MAP = ParameterMap(INFOS, "Net", None, True)


def test_a_role_is_its_word_in_every_form():
    assert Role("word_embedding") is Role.WORD_EMBEDDING
    assert str(Role.KEY) == f"{Role.KEY}" == Role.KEY == "key"
    assert len({role.value for role in Role}) == len(Role) == 16


def test_what_the_map_says_of_its_parameters():
    assert MAP.names == ("layers.0.k.weight", "layers.0.k.bias", "layers.1.gate", "out.weight")
    assert MAP.blocks == 2
    assert MAP.unnamed == ("layers.1.gate",)
    assert MAP.roles == (Role.KEY, Role.BIAS, Role.HEAD)
    assert MAP.head == ("out.weight",)
    assert MAP.info("tied.weight") is MAP.info("layers.0.k.weight") is INFOS[0]
    assert [info.numel for info in INFOS] == [32, 8, 1, 16]
    assert ParameterMap((), "Net", None, True).blocks == 0
    for frozen in (MAP, INFOS[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            frozen.role = None
