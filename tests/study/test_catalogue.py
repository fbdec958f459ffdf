"""The specs: all load, they say what the paper prints, and a faulty one is refused with the place of each fault."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from supermask.errors import ConfigurationError, DataError, SupermaskError, UnknownNameError
from supermask.study import Study, load_study, runs_of, study_names
from supermask.study.catalogue import parse_study
from supermask.study.expansion import planned_steps
from supermask.tasks import find_task

GLUE = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")

# Rows as the paper prints them, copied from its text.
TABLE_1 = "36, 816 34, 113 9, 822 6, 315 804 540 345 234"
ADDITIONAL = "2, 304 1, 536 1, 536 1, 536 1, 536 768 1, 536 1, 536"
BASELINE = "84.3/85.6 88.5 91.6 92.7 55.2 88.5 90.7 67.1"
SUPERMASK = "81.5/82.9 87.2 89.8 91.3 50.8 88.2 91.3 68.8"
SUPERMASK_SPREAD = "±0.1 ±0.1 ±0.1 ±0.2 ±0.8 ±0.1 ±0.4 ±1.0"
SPARSITY = "12.9% 12.6% 10.3% 7.4% 2.9% 2.2% 1.3% 1.0%"
TABLE_4 = {
    "pruned_max": "0.0093 0.0093 0.0075 0.0059 0.0022 0.0018 0.0009 0.0007",
    "supermask_max": "1.7 6.4 2.5 1.7 1.1 2.8 1.8 2.8",
    "pruned_mean": "0.0033 0.0032 0.0026 0.0020 0.0008 0.0006 0.0003 0.0002",
    "supermask_mean": "0.032 0.033 0.033 0.035 0.037 0.036 0.038 0.036",
    "overlap": "11.1% 10.0% 6.7% 3.6% 0.7% 0.7% 0.7% 0.7%",
}
TABLE_3 = """109M FLOAT (100%) 89.4± 0.7
102M FLOAT (94%) 89.1± 0.8
95M FLOAT (87%) 88.8± 0.9
86M FLOAT (78%) 89.3± 0.8
66M FLOAT (60%) 88.7± 0.9
66M BINARY (60%) 87.4± 2.2
66M BINARY (60%) 86.6± 2.2"""


def expected(study: Study, arm: str | None, quantity: str, task: str | None = None) -> float:
    (number,) = [e for e in study.expected if (e.arm, e.quantity, e.task) == (arm, quantity, task)]
    assert number.source.startswith(("Table", "Figure", "Appendix"))
    return number.value


def spread(study: Study, arm: str, task: str) -> float | None:
    (number,) = [e for e in study.expected if (e.arm, e.quantity, e.task) == (arm, "score", task)]
    return number.spread


def row(study: Study, arm: str, quantity: str) -> list[float]:
    return [expected(study, arm, quantity, task) for task in GLUE]


def numbers(text: str) -> list[float]:
    return [float(word.strip("±%")) / (100 if word.endswith("%") else 1) for word in text.replace(", ", "").split()]


def test_there_is_a_spec_for_every_table_and_figure_that_can_be_run() -> None:
    tables = [f"table{number}" for number in range(1, 7)]
    figures = [f"figure{number}" for number in range(2, 11)]  # Figure 1 is an illustration
    assert study_names() == (*tables, *figures, "appendix-a", "conventions")


@pytest.mark.parametrize("name", study_names())
def test_a_spec_loads_and_expands(name: str) -> None:
    study = load_study(name)
    runs = runs_of(study)
    assert study.name == name
    assert study.shows == ("figure" if name.startswith("figure") else "table")
    assert study.paper.replace(" ", "").replace("Appendix", "Appendix-").lower() in (name, "ours")
    assert len({run.key for run in runs}) == len(runs) > 0
    assert study.claim.endswith(".") and study.draws == 10 and study.base == "minilm-l6"
    assert {run.config.precision for run in runs} == {"auto"}
    if len(study.tasks) > 1:
        assert study.tasks == GLUE


def test_an_arm_is_the_same_in_every_study() -> None:
    arms: dict[str, tuple[object, ...]] = {}
    for name in study_names():
        for arm in load_study(name).arms:
            told = (arm.parsed_method, arm.config)
            assert arms.setdefault(arm.name, told) == told, (name, arm.name)
    assert set(arms) == {
        *("supermask", "full", "full-lr1e-4", "head-only"),
        *(f"supermask-init{percent}" for percent in (20, 40, 70, 90)),
        *(f"supermask-lr2e-0{digit}" for digit in (2, 3, 4, 5)),
        *(f"supermask-{way}-eps1e-0{digit}" for way in ("through", "stop") for digit in (5, 6, 7, 9)),
        "supermask-stop-eps1e-08",
        *(f"pruning-{percent}" for percent in (10, 30, 50, 60, 80, 90)),
        *(f"freezing-{which}" for which in ("1", "2", "3", "1-2-3")),
        *(f"supermask-123-init{percent}" for percent in (30, 40)),
    }


def test_different_arms_of_a_study_are_different_runs() -> None:
    conventions = load_study("conventions")
    assert {
        (arm.parsed_method.describe()["gradient"], arm.parsed_method.describe()["eps"]) for arm in conventions.arms
    } == {(way, eps) for way in ("through", "stop") for eps in (1e-9, 1e-8, 1e-7, 1e-6, 1e-5)}


def test_table_1_derives_from_the_settings() -> None:
    study = load_study("table1")
    steps = {run.task: planned_steps(run) for run in runs_of(study)}
    assert [steps[task] for task in GLUE] == numbers(TABLE_1) == row(study, "full", "steps")
    for task in GLUE:
        rows = find_task(task).expected_sizes["train"]
        assert steps[task] == 3 * -(-rows // 32)
    heads = [768 * find_task(task).num_labels for task in GLUE]
    assert heads == numbers(ADDITIONAL) == row(study, "full", "additional_parameters")


def test_table_2_is_as_printed() -> None:
    study = load_study("table2")
    assert [expected(study, None, name) for name in ("l1_uniform", "l1_normal")] == [20.0, 16.7]
    assert [expected(study, None, name) for name in ("angular_uniform", "angular_normal")] == [0.5, 0.5]
    assert [expected(study, "full", name) for name in ("l1_min", "l1_max", "angular_min", "angular_max")] == [
        *(0.1, 3.3),
        *(0.001, 0.027),
    ]


def test_table_3_is_as_printed() -> None:
    study = load_study("table3")
    assert study.seeds == tuple(range(10)) and len(runs_of(study)) == 70
    for arm, line in zip(study.arms, TABLE_3.splitlines(), strict=True):
        parameters, kind, share, score, deviation = line.replace("±", "").split()
        assert expected(study, arm.name, "parameters", "mrpc") == float(parameters.rstrip("M")) * 1e6
        assert expected(study, arm.name, "parameter_share", "mrpc") == pytest.approx(float(share.strip("(%)")) / 100)
        assert expected(study, arm.name, "score", "mrpc") == pytest.approx(float(score) / 100)
        assert spread(study, arm.name, "mrpc") == pytest.approx(float(deviation) / 100)
        assert (arm.parsed_method.kind == "supermask") == (kind == "BINARY")
    last = [arm.parsed_method.describe()["initial_sparsity"] for arm in study.arms[-2:]]
    assert last == [0.3, 0.4]


@pytest.mark.parametrize("quantity", TABLE_4)
def test_table_4_is_as_printed(quantity: str) -> None:
    assert row(load_study("table4"), "supermask", quantity) == pytest.approx(numbers(TABLE_4[quantity]))


@pytest.mark.parametrize("name", ["table5", "figure6"])
def test_table_5_is_as_printed(name: str) -> None:
    study = load_study(name)
    for arm, line in (("full", BASELINE), ("supermask", SUPERMASK)):
        first, *others = line.split()
        matched, mismatched = first.split("/")
        assert [100 * value for value in row(study, arm, "score")] == pytest.approx(
            numbers(" ".join([matched, *others]))
        )
        assert 100 * expected(study, arm, "score_mismatched", "mnli") == pytest.approx(float(mismatched))
    assert [100 * (spread(study, "supermask", task) or 0) for task in GLUE] == pytest.approx(numbers(SUPERMASK_SPREAD))
    assert row(study, "supermask", "sparsity") == pytest.approx(numbers(SPARSITY))


def test_table_6_and_the_appendix_are_as_printed() -> None:
    study = load_study("table6")
    rates = [arm.parsed_method.describe()["learning_rate"] for arm in study.arms]
    assert rates == [0.2, 0.02, 0.002, 0.0002, 0.00002]
    assert [100 * expected(study, arm.name, "score", "mrpc") for arm in study.arms] == pytest.approx(
        [91.3, 82, 0, 0, 0]
    )
    assert [spread(study, arm.name, "mrpc") for arm in study.arms] == [0.004, 0.002, None, None, None]
    appendix = load_study("appendix-a")
    assert expected(appendix, "head-only", "score", "mrpc") == 0.812
    assert (expected(appendix, "full", "score", "mrpc"), spread(appendix, "full", "mrpc")) == (0.894, 0.007)


def test_figures_carry_no_number_that_the_paper_does_not_print() -> None:
    for name in ("figure2", "figure5", "figure7"):
        assert load_study(name).expected == ()
    for name in ("figure3", "figure4", "figure6", "figure8", "figure9", "figure10"):
        assert {number.source for number in load_study(name).expected} <= {"Table 1", "Table 5", "Figure 4"}


def test_specs_are_package_data() -> None:
    names = {entry.name for entry in (files("supermask.study") / "specs").iterdir()}
    assert {f"{name}.yaml" for name in study_names()} <= names


def test_specs_are_in_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling.build", reason="hatchling builds the wheel")
    root = Path(__file__).parents[2]
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    import zipfile

    names = zipfile.ZipFile(tmp_path / built.stdout.split()[-1]).namelist()
    assert "supermask/study/specs/table5.yaml" in names


def test_an_unknown_study_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"'Table 5'; did you mean table5\? studies are: table1"):
        load_study("Table 5")


def test_a_spec_of_your_own(tmp_path: Path) -> None:
    text = (files("supermask.study") / "specs" / "table6.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: table6", "name: mine", 1), encoding="utf-8")
    assert load_study(path).arms == load_study(str(path)).arms == load_study("table6").arms
    with pytest.raises(DataError, match="cannot be read"):
        load_study(tmp_path / "other.yaml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        load_study(path)
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(DataError, match="larger than a spec can be"):
        load_study(path)


FAULTY = """version: 2
name: Table Five
title: ""
shows: picture
paper: Table 5
claim: None.
tasks: [mrpc, SST-2, nonsense]
seeds: [0, 0]
colour: red
config: {seed: 3}
arms:
  - name: one
    label: One
    method: {kind: supermask, init_logits: 3}
    config: {epochs: 0}
  - name: two
    label: Two
    method: {kind: pruning, sparsity: 2}
expected:
  - {arm: one, quantity: scores, value: 1, source: Table 5}
"""


def test_all_faults_are_told_together_with_their_lines() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_study(FAULTY, source="mine.yaml")
    told = str(caught.value)
    for line, words in {
        1: "version",
        2: "name",
        3: "title",
        4: "shows should be 'table' or 'figure', received 'picture'",
        7: "tasks: write the task 'SST-2' as 'sst2'",
        8: "seeds: given twice: 0",
        9: "'colour' is no setting",
        10: "config: a seed stands under seeds",
        12: "arms.0: Arm: method: Supermask: 'init_logits' is no setting",
        16: "arms.1: Arm: method",
        20: "expected.0: Expected: quantity",
    }.items():
        assert f"mine.yaml:{line}: {words}" in told
    assert "epochs should be greater than or equal to 1, received 0" in told
    assert told.count("mine.yaml:") == 11


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("arm: supermask,", "arm: nobody,"), "number 0 names the arm 'nobody'; arms: supermask, supermask-lr2e-02"),
        (("task: mrpc,", "task: rte,"), "number 0 names the task 'rte'; tasks: mrpc"),
        (("name: supermask-lr2e-02", "name: supermask"), "arms: given twice: supermask"),
        (("arm: supermask-lr2e-02,", "arm: supermask,"), "given twice: the score of arm supermask on mrpc"),
        (("draws: 10", "draws: 0"), "mine.yaml:11: draws should be greater than or equal to 1"),
        (("draws: 10", "draws: ten"), "draws should be a valid integer"),
        (("tasks: [mrpc]", "tasks: mrpc"), "tasks should be a valid tuple, received 'mrpc'"),
        (("tasks: [mrpc]", "tasks: []"), "tasks Tuple should have at least 1 item"),
        (("value: 0.913", "value: .inf"), "expected.0: Expected: value should be a finite number"),
        (("title:", "titel:"), "'titel' is no setting"),
        (("draws: 10", "draws: 10\ndraws: 11"), "mine.yaml:12: cannot be read: the key 'draws' a second time"),
        (("draws: 10", "draws: &a 10\nother: *a"), "an alias"),
        (("draws: 10", "draws: !!python/object:os.system {}"), "mine.yaml"),
        (("draws: 10", "5: 10"), "5 Keys should be strings"),
        (("draws: 10", "draws: 2020-13-45"), "cannot be read: month must be"),
        (("draws: 10", "draws: [1"), "mine.yaml:12: cannot be read: expected"),
        (("draws: 10", "{}: 10"), "mine.yaml:11: cannot be read: found unhashable key"),
        (("draws: 10", "draws: " + "[" * 5000), "cannot be read"),
        (("draws: 10", "draws: " + "[" * 30 + "]" * 30), "draws should be a valid integer"),
    ],
)
def test_a_hostile_spec_is_refused(change: tuple[str, str], words: str) -> None:
    text = (files("supermask.study") / "specs" / "table6.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    with pytest.raises(SupermaskError) as caught:
        parse_study(text.replace(*change, 1), source="mine.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "5", "\x00", "a: b: c", "%YAML 9.9\n---\na: 1", "a: 1\n---\nb: 2"])
def test_what_is_no_spec_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"mine\.yaml:\d+: "):
        parse_study(text, source="mine.yaml")


def test_aliases_cannot_make_a_small_file_large() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigurationError, match="an alias"):
        parse_study("\n".join(lines), source="mine.yaml")
