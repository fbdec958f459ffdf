"""A tiny GLUE folder of invented sentences, with the columns, headers and quirks of the official files."""

from pathlib import Path

_MNLI_HEAD = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
    "\tsentence1\tsentence2"
)
_MNLI_ROW = "31193\t31193n\tfiction\t( a )\t( b )\t(ROOT a)\t(ROOT b)"

FILES = {
    "CoLA/train.tsv": 'xy01\t1\t\tThe lamp "hums" at night.\nxy01\t0\t*\tLamp the night hums at.\n',
    "CoLA/dev.tsv": "xy02\t1\t\tA kettle sings.\n",
    "CoLA/test.tsv": "index\tsentence\n0\tKettles sing.\n1\tSing kettle a.\n",
    "SST-2/train.tsv": "sentence\tlabel\na lovely little film \t1\nslow and sour \t0\n",
    "SST-2/dev.tsv": "sentence\tlabel\nfine\t1\n",
    "SST-2/test.tsv": "index\tsentence\n0\tnot bad at all\n",
    "MRPC/train.tsv": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
        '1\t11\t12\tHe left.\t"He went away.\r\n'
        "0\t13\t14\tIt rained.\tSnow fell.\r\n"
    ),
    "MRPC/dev.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t15\t16\tShe sang.\tShe was singing.\r\n",
    "MRPC/test.tsv": "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n0\t17\t18\tOne.\tTwo.\r\n",
    "STS-B/train.tsv": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tnews\tf\t2012\t0001\tnone\tnone\tA cow eats.\tA cow is eating.\t5.000\n"
        "1\tnews\tf\t2012\t0002\tnone\tnone\tA cow eats.\tA plane lands.\t0.25\n"
    ),
    "STS-B/dev.tsv": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "8\tnews\tf\t2012\t0003\tnone\tnone\tA boat.\tA ship.\t3.8\n"
    ),
    "STS-B/test.tsv": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\n"
        "0\tnews\tf\t2012\t0004\tnone\tnone\tA boat.\tA goat.\n"
    ),
    # Lines 3 and 4 are one row that a line end inside a question has cut in two; line 6 has an empty question.
    "QQP/train.tsv": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        "133\t1\t2\tHow do bees fly?\tHow can bees fly?\t1\n"
        "134\t3\t4\tWhy is\n"
        "the sea salt?\tWhy is the sea salty?\t1\n"
        "135\t5\t6\tWhat is\u2028tea?\tWhat is\x85coffee?\t0\n"
        "136\t7\t8\t\tWhat?\t0\n"
    ),
    "QQP/dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n7\t1\t2\tWhere?\tWhen?\t0\n",
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\tWho?\tWhom?\n",
    "MNLI/train.tsv": (
        f"{_MNLI_HEAD}\tlabel1\tgold_label\n"
        f"0\t{_MNLI_ROW}\tIt is hot. \tIt is warm.\tentailment\tentailment\n"
        f"1\t{_MNLI_ROW}\tIt is hot.\tIt is cold.\tcontradiction\tcontradiction\n"
        f"2\t{_MNLI_ROW}\tIt is hot.\tn/a\tneutral\tneutral\n"
    ),
    "MNLI/dev_matched.tsv": (
        f"{_MNLI_HEAD}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
        f"0\t{_MNLI_ROW}\tHe ran.\tHe moved.\tneutral\tentailment\tentailment\tneutral\tentailment\tentailment\n"
    ),
    "MNLI/dev_mismatched.tsv": (
        f"{_MNLI_HEAD}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
        f"0\t{_MNLI_ROW}\tHe ran.\tHe slept.\tneutral\tcontradiction\tneutral\tneutral\tneutral\tcontradiction\n"
        f"1\t{_MNLI_ROW}\tHe ran.\t\tneutral\tneutral\tneutral\tneutral\tneutral\tneutral\n"
    ),
    "MNLI/test_matched.tsv": f"{_MNLI_HEAD}\n9\t{_MNLI_ROW}\tShe rose.\tShe stood.\n",
    "MNLI/test_mismatched.tsv": f"{_MNLI_HEAD}\n10\t{_MNLI_ROW}\tShe rose.\tShe fell.\n",
    "QNLI/train.tsv": (
        "index\tquestion\tsentence\tlabel\n0\tWho built it?\tMasons built it.\tentailment\n"
        "1\tWho built it?\tIt is tall.\tnot_entailment\n"
    ),
    "QNLI/dev.tsv": "index\tquestion\tsentence\tlabel\n0\tWhen?\tIn May.\tentailment\n",
    "QNLI/test.tsv": "index\tquestion\tsentence\n0\tHow?\tSlowly.\n",
    "RTE/train.tsv": (
        "index\tsentence1\tsentence2\tlabel\n0\tAnn has a dog.\tAnn has a pet.\tentailment\n"
        "1\tAnn has a dog.\tAnn has a cat.\tnot_entailment\n"
    ),
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tBo is in.\tBo is out.\tnot_entailment\n",
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\tBo is in.\tBo is home.\n",
}


def write_glue(root: Path) -> Path:
    """Write all files under `root` and return it."""
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return root
