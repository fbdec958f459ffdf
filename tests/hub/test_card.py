import ast
import re
import shlex
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from torch import nn

from deltas.tiny_deltas import HEAD, tiny_delta, tiny_model
from supermask.deltas import ChangePlace, DenseValues, TaskDelta, base_fingerprint
from supermask.errors import ConfigurationError
from supermask.hub import model_card

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")

TASK = {
    "name": "mrpc",
    "kind": "classification",
    "label_names": ["not_equivalent", "equivalent", "unsure"],
    "metrics": ["f1", "accuracy"],
    "paired": True,
}
TRAINING = {
    "config": {"seed": 3, "max_length": 128, "learning_rate": 2e-05},
    "precision": "bf16",
    "steps": 1345,
    "supermask": "0.1.0",
    "data": {
        "train": {"examples": 3668, "official_size": 3668, "source": "/home/alice/glue/MRPC/train.tsv"},
        "dev": {"examples": 408, "official_size": 408, "source": "/home/alice/glue/MRPC/dev.tsv"},
    },
    "scores": {"dev": {"accuracy": 0.7769607843137255, "f1": 0.851063829787234}},
}


def described(**parts: Any) -> TaskDelta:
    given_parts = {"task": TASK, "training": TRAINING, "base_name": "someone/tiny", "base_revision": "0" * 40}
    return tiny_delta(tiny_model(), **{**given_parts, **parts})


def card_of(delta: TaskDelta, **options: Any) -> str:
    return model_card(delta.document, nbytes=delta.nbytes_on_disk(), **options)


def parts_of(card: str) -> tuple[dict[str, Any], str]:
    head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()  # type: ignore[union-attr]
    return yaml.safe_load(head), body


def structure(card: str) -> list[str]:
    """What kinds of Markdown a card is made of, texts aside."""
    found = []
    for token in MARKDOWN.parse(parts_of(card)[1]):
        found.append(token.type)
        found += [child.type for child in token.children or []]
    return found


def table_under(card: str, heading: str) -> list[list[str]]:
    section = card.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [rows[0], *rows[2:]]


def test_what_the_hub_indexes() -> None:
    card = card_of(described(), address="me/tiny-mrpc", license="mit")
    metadata, _ = parts_of(card)
    results = metadata.pop("model-index")
    assert metadata == {
        "base_model": "someone/tiny",
        "base_model_relation": "adapter",
        "datasets": ["nyu-mll/glue"],
        "library_name": "supermask",
        "license": "mit",
        "metrics": ["f1", "accuracy"],
        "pipeline_tag": "text-classification",
        "tags": ["supermask", "task-delta"],
    }
    assert ModelCard(card).data.eval_results[1].metric_value == 0.776961  # as the hub's own library reads it
    ((model,), (result,)) = results, results[0]["results"]
    assert model["name"] == "tiny-mrpc"
    assert result["dataset"] == {
        "name": "GLUE MRPC",
        "type": "nyu-mll/glue",
        "config": "mrpc",
        "split": "validation",
        "args": {"rows": 408, "official_rows": 408},
    }
    assert [(metric["type"], metric["value"], metric["args"]) for metric in result["metrics"]] == [
        ("f1", 0.851064, {"mask": "thresholded", "precision": "bf16"}),
        ("accuracy", 0.776961, {"mask": "thresholded", "precision": "bf16"}),
    ]


def test_what_it_says() -> None:
    delta = described()
    card = card_of(delta, address="me/tiny-mrpc")
    for text in (
        "# `mrpc` as a task delta",
        "`classification` of pairs of texts, labels `not_equivalent`, `equivalent`, `unsure`",
        f"`someone/tiny` at revision `{'0' * 40}`",
        delta.base.digest,
        delta.digest,
        f"{delta.nbytes_on_disk():,} bytes",
        "thresholded mask (the stored one; no sampling), arithmetic `bf16`, texts cut at 128 tokens, seed 3, one run",
        "\n- 1,345 steps\n- 3,668 training examples\n- supermask `0.1.0`\n",
        '"learning_rate": 2e-05',
        "None was chosen for the delta.",
    ):
        assert text in card, text
    assert table_under(card, "Scores")[1:] == [
        ["`dev`", "408, all of the official split", "`f1`", "85.11"],
        ["`dev`", "408, all of the official split", "`accuracy`", "77.70"],
    ]
    assert "/home/alice" not in card


def test_zeros_by_role_are_those_of_the_masks() -> None:
    delta = described()
    counted: dict[str, list[int]] = {}
    for name, change in delta.changes_for(tiny_model()).items():
        role = {"dense.weight": "query"}.get(name, "unnamed")
        row = counted.setdefault(role, [0, 0, 0])
        keep = getattr(change, "keep", None)
        if keep is not None:
            row[0] += int((~keep).sum())
            row[1] += keep.numel()
        row[2] += getattr(change, "values", keep[:0] if keep is not None else None).numel()  # type: ignore[union-attr]
    shown = {row[0].strip("`"): row[1:] for row in table_under(card_of(delta), "What changes, by role")[1:]}
    assert shown == {
        role: [f"{zeros:,}", f"{weights:,}", f"{100 * zeros / weights:.2f}", f"{values:,}" if values else "–"]
        for role, (zeros, weights, values) in counted.items()
    }
    total = sum(zeros for zeros, _, _ in counted.values())
    assert f"({total:,} of {delta.weights:,} weights with a mask)" in card_of(delta)


def test_values_alone_have_no_zeros() -> None:
    base = nn.Linear(3, 2)
    delta = TaskDelta.create(
        {"bias": DenseValues(base.bias.detach())},
        base=base_fingerprint(base, head=["bias"]),
        head=["bias"],
        method={"kind": "freezing"},
    )
    card = card_of(delta)
    assert "| zeros | none: values alone were trained |" in card
    assert table_under(card, "What changes, by role")[1:] == [["`unnamed`", "–", "–", "–", "2"]]
    assert "num_labels=2" in card
    metadata, _ = parts_of(card)
    assert metadata == {"library_name": "supermask", "tags": ["supermask", "task-delta", "freezing"]}
    assert "## Scores" not in card


OFFICIAL = {"name": "GLUE MRPC", "type": "nyu-mll/glue", "config": "mrpc", "split": "validation"}
MNLI = {"name": "GLUE MNLI", "type": "nyu-mll/glue", "config": "mnli", "split": "validation_matched"}


@pytest.mark.parametrize(
    ("task", "split", "data", "expected", "rows"),
    [
        (
            *("mrpc", "dev", {"examples": 200, "official_size": 408, "source": "dev.tsv"}),
            {**OFFICIAL, "name": "GLUE MRPC (200 of 408 rows)", "args": {"rows": 200, "official_rows": 408}},
            "200 of 408, **a subset**",
        ),
        (
            *("My reviews", "dev", {"examples": 50, "source": "dev.csv"}),
            {"name": "My reviews", "type": "My-reviews", "split": "dev", "args": {"rows": 50}},
            "50",
        ),
        (
            *("mrpc", "dev_matched"),
            {"examples": 9815, "official_size": 9815, "source": "hub:nyu-mll/glue/mnli@bcdcba79/validation_matched"},
            {**MNLI, "args": {"rows": 9815, "official_rows": 9815}},
            "9,815, all of the official split",
        ),
    ],
)
def test_which_data_set_a_score_is_over_and_how_much_of_it(
    task: str, split: str, data: dict[str, Any], expected: dict[str, Any], rows: str
) -> None:
    train = {"examples": 1000, "official_size": 3668, "source": "train.tsv"}
    scores = {split: {"accuracy": 0.5, "matthews": 0.1, "spearman": 0.2, "pearson": 0.3}}
    training = {**TRAINING, "data": {"train": train, split: data}, "scores": scores}
    card = card_of(described(task={**TASK, "name": task}, training=training))
    metadata, _ = parts_of(card)
    (result,) = metadata["model-index"][0]["results"]
    assert result["dataset"] == expected
    assert metadata.get("datasets", [expected["type"]]) == [expected["type"]]
    assert metadata["metrics"] == ["accuracy", "matthews_correlation", "pearsonr", "spearmanr"]  # by the hub's names
    assert table_under(card, "Scores")[1][1] == rows
    assert "1,000 of 3,668 training examples" in card


@pytest.mark.parametrize(
    ("name", "revision", "hub_id", "loaded_by"),
    [
        ("someone/tiny", "a" * 40, "someone/tiny", "someone/tiny"),
        ("bert-base-uncased", "a" * 40, "bert-base-uncased", "bert-base-uncased"),
        ("minilm-l6", None, None, "minilm-l6"),
        ("/home/alice/secret/bert", None, None, "PATH/TO/bert"),
        ("C:\\Users\\alice\\bert", None, None, "PATH/TO/bert"),
        (None, None, None, "PATH/TO/BASE"),
    ],
)
def test_where_the_base_is(name: str | None, revision: str | None, hub_id: str | None, loaded_by: str) -> None:
    card = card_of(described(base_name=name, base_revision=revision))
    metadata, _ = parts_of(card)
    assert metadata.get("base_model") == hub_id
    assert f'load_base("{loaded_by}", num_labels=3' in card
    assert (f'revision="{revision}"' in card) == (revision is not None)
    assert "alice" not in card


def test_the_snippets_parse() -> None:
    delta = described(task={**TASK, "kind": "regression", "label_names": []}, base_name='it\'s "so"; rm -rf $(x)')
    card = card_of(delta, address="hf://me/many/a b;c")
    code, console = re.findall(r"```(?:python|console)\n(.*?)\n```", card, re.DOTALL)
    calls = {node.func.attr: node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)}  # type: ignore[attr-defined]
    assert ast.literal_eval(calls["from_pretrained"].args[0]) == "hf://me/many/a b;c"
    assert ast.literal_eval(calls["load_base"].args[0]) == 'it\'s "so"; rm -rf $(x)'
    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in calls["load_base"].keywords}
    assert options == {"num_labels": 3, "regression": True, "revision": "0" * 40}
    assert shlex.split(console)[:4] == ["$", "supermask", "predict", "hf://me/many/a b;c"]


def test_long_lists_are_cut() -> None:
    names = {f"tensor{number}": f"role{number}" for number in range(60)}
    model = nn.ParameterDict({name: nn.Parameter(nn.Linear(1, 1).bias.detach()) for name in names})
    delta = TaskDelta.create(
        {name: DenseValues(model[name].detach()) for name in names},
        base=base_fingerprint(model),
        places={name: ChangePlace(role) for name, role in names.items()},
        task={**TASK, "label_names": [f"label{number}" for number in range(500)]},
        method={"kind": "freezing", "more": "x" * 5000},
        training={"scores": {f"split{number}": {"accuracy": 0.5} for number in range(100)}},
    )
    card = card_of(delta)
    assert len(card) < 20_000
    assert "and 488 more" in card
    assert "| 36 more | | | | |" in card
    assert len(table_under(card, "Scores")) == 33
    assert "They are long: `supermask inspect --json` shows them." in card


HOSTILE = (
    "\n---\nlicense: mit\n---\n# Owned\n| a | b |\n```\n`x` <script>alert(1)</script> [l](http://e.vil) ![i](x)"
    " </details> www.e.vil \u202e\x1b[2J & &lt; \\| \\` $x$ {{ x }} <!-- "
)


def test_hostile_texts_are_only_texts() -> None:
    shown = "".join(character for character in HOSTILE if character.isprintable())  # what a name may be
    told = {"examples": 7, "official_size": 2**52, "source": HOSTILE, "content_hash": shown}
    model = tiny_model()
    changes = {"dense.weight": tiny_delta(model).changes_for(model)["dense.weight"]}
    delta = TaskDelta.create(
        {**changes, **{name: DenseValues(model.state_dict()[name]) for name in HEAD}},
        base=base_fingerprint(model, head=HEAD),
        head=HEAD,
        places={"dense.weight": ChangePlace(shown)},
        base_name=shown,
        base_revision=shown,
        architecture=shown,
        method={"kind": shown, HOSTILE: [HOSTILE]},
        task={"name": HOSTILE, "kind": shown, "label_names": [HOSTILE] * 3, "metrics": [shown], "paired": True},
        training={
            "config": {HOSTILE: HOSTILE, "seed": HOSTILE, "max_length": [HOSTILE]},
            "precision": shown,
            "steps": 2**52,
            "supermask": shown,
            "data": {"train": told, shown: told},
            "scores": {shown: {shown: 1e308, "x": -0.0}, "more": {"y": 5e-324}, "none": {}},
        },
    )
    card = card_of(delta)
    metadata, body = parts_of(card)
    assert metadata.keys() == {"library_name", "metrics", "model-index", "tags"}
    html = [token.content for token in MARKDOWN.parse(body) if token.type == "html_block"]
    assert html == ["<details>\n<summary>Settings</summary>\n", "</details>\n"]
    kinds = structure(card)
    assert not {"html_inline", "link_open", "image", "hr", "blockquote_open"} & set(kinds)
    headings = re.findall(r"(?m)^#+ .*$", re.sub(r"(?s)```.*?\n```", "", body))
    assert [line.partition(" ")[2] for line in headings[1:]] == [
        *("Scores", "Use", "What changes, by role", "Training", "Licence")
    ]
    assert not [character for character in card if not character.isprintable() and character != "\n"]
    ast.parse(re.search(r"```python\n(.*?)\n```", card, re.DOTALL)[1])  # type: ignore[index]


PLAIN = structure(card_of(described(base_revision=None)))


@settings(max_examples=40)
@given(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip() and any(map(str.isalnum, text)))
)
def test_no_text_changes_what_a_card_is_made_of(text: str) -> None:
    name = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", "", text)  # what a name may be
    try:
        delta = described(
            base_revision=None,
            task={**TASK, "name": text, "label_names": [text] * 3, "kind": name},
            training={**TRAINING, "scores": {name: {"f1 ": 0.5, name: 0.5}}, "precision": name},
        )
    except ConfigurationError:
        assert len(name) > 1000 or not name
        return
    assert structure(card_of(delta)) == PLAIN


def test_a_licence_is_an_identifier() -> None:
    for license in ("", "Apache License, Version 2.0", "mit\ntags: [x]", "-", "x" * 99):
        with pytest.raises(ConfigurationError, match="is no identifier of a licence"):
            card_of(described(), license=license)
    assert "The delta is under `cc-by-sa-4.0`." in card_of(described(), license="cc-by-sa-4.0")
