import shutil

import pytest

from supermask.errors import DataError, UnknownNameError
from supermask.tasks import load_glue
from supermask.tasks.glue import GLUE_TASKS
from supermask.tasks.table import faults_of

from .official_layout import write_glue

NAMES = [task.name for task in GLUE_TASKS]


@pytest.fixture
def glue(tmp_path):
    return write_glue(tmp_path / "glue")


def replace(path, old: str, new: str) -> None:
    content = path.read_bytes().decode()
    assert old in content
    path.write_bytes(content.replace(old, new, 1).encode())


@pytest.mark.parametrize("name", NAMES)
def test_every_task_loads_all_its_splits(glue, name):
    data = load_glue(name, glue)
    assert tuple(data.splits) == data.task.splits
    for split, examples in data.splits.items():
        assert (examples.labels is None) == (split in data.task.test_splits)
        assert (examples.second is not None) == data.task.paired
        assert examples.source.endswith(".tsv")


@pytest.mark.parametrize(
    ("name", "first", "second", "labels", "ids"),
    [
        ("cola", ('The lamp "hums" at night.', "Lamp the night hums at."), None, (1, 0), ("0", "1")),
        ("sst2", ("a lovely little film ", "slow and sour "), None, (1, 0), ("0", "1")),
        ("mrpc", ("He left.", "It rained."), ('"He went away.', "Snow fell."), (1, 0), ("0", "1")),
        ("stsb", ("A cow eats.",) * 2, ("A cow is eating.", "A plane lands."), (5.0, 0.25), ("0", "1")),
        (
            "mnli",
            ("It is hot. ", "It is hot.", "It is hot."),
            ("It is warm.", "It is cold.", "n/a"),
            (0, 2, 1),
            ("0", "1", "2"),
        ),
        ("qnli", ("Who built it?",) * 2, ("Masons built it.", "It is tall."), (0, 1), ("0", "1")),
        ("rte", ("Ann has a dog.",) * 2, ("Ann has a pet.", "Ann has a cat."), (0, 1), ("0", "1")),
    ],
)
def test_columns_and_labels_are_the_official_ones(glue, name, first, second, labels, ids):
    train = load_glue(name, glue).train
    assert (train.first, train.second, train.labels, train.ids) == (first, second, labels, ids)
    assert (train.skipped, train.skip_reasons) == (0, ())


def test_broken_rows_of_the_qqp_train_file_are_skipped_counted_and_told(glue):
    data = load_glue("qqp", glue)
    train = data.train
    assert train.first == ("How do bees fly?", "What is\u2028tea?", "")
    assert train.second == ("How can bees fly?", "What is\x85coffee?", "What?")
    assert (train.labels, train.ids) == ((1, 0, 0), ("133", "135", "136"))
    assert train.skipped == 2
    assert train.skip_reasons == (
        f"2 broken rows of {glue / 'QQP' / 'train.tsv'} with too few columns left out (line 3, 4)",
    )
    assert any("2 broken rows" in note for note in data.notes)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("QQP/dev.tsv", "\tWhere?\tWhen?", "\tWhere?", r"2: 5 columns where the header has 6 \(id, qid1"),
        ("QQP/train.tsv", "How can bees", "How\tcan bees", r"2: 7 columns where the header has 6"),
        ("CoLA/train.tsv", "xy01\t0\t*\t", "xy01\t0\t", r"2: 3 columns where the format has 4 \(source, label"),
        ("RTE/train.tsv", "\tnot_entailment", "\tneutral", "3: the label 'neutral' is none of: entailment, not_entail"),
        ("CoLA/dev.tsv", "xy02\t1", "xy02\tyes", "1: the label 'yes' is none of: 0, 1"),
        ("MNLI/train.tsv", "neutral\tneutral", "neutral\t-", "4: the label '-' is none of: entailment, neutral, contr"),
        ("STS-B/train.tsv", "5.000", "5.001", "2: the score '5.001' is not a number from 0 to 5"),
        ("STS-B/train.tsv", "0.25", "-0.25", "3: the score '-0.25' is not a number from 0 to 5"),
        ("STS-B/dev.tsv", "3.8", "high", "2: the score 'high' is not a number from 0 to 5"),
        ("STS-B/dev.tsv", "3.8", "nan", "2: the score 'nan' is not a number"),
        ("STS-B/dev.tsv", "3.8", "", "2: the score '' is not a number"),
        ("SST-2/train.tsv", "slow and sour ", " ", "3: the column 'sentence' is empty"),
        ("MRPC/dev.tsv", "She was singing.", "", "2: the column '#2 String' is empty"),
        ("RTE/dev.tsv", "sentence2\tlabel", "sentence2\tgold", " no column 'label'; .*columns are: index, sentence1"),
    ],
)
def test_broken_rows_and_malformed_content_are_refused_with_file_and_line(glue, file, old, new, message):
    replace(glue / file, old, new)
    folder, name = file.split("/")
    with pytest.raises(DataError, match=f"{folder}.{name}:{message}"):
        load_glue(folder, glue)


def test_mnli_reads_the_gold_label_in_files_of_any_width(glue):
    data = load_glue("mnli", glue)
    assert data["dev_matched"].labels == (0,)
    assert data["dev_mismatched"].labels == (2, 1)
    assert data["dev_mismatched"].second == ("He slept.", "")
    assert data["test_mismatched"].ids == ("10",)
    narrow = "index\tsentence1\tsentence2\tgold_label\n5\tHe ran.\tHe moved.\tneutral\n"
    (glue / "MNLI" / "dev_matched.tsv").write_text(narrow)
    assert load_glue("mnli", glue)["dev_matched"].labels == (1,)


@pytest.mark.parametrize("folder", ["SST-2", "sst2", "SST2", "sst-2", "Sst_2"])
def test_the_folders_name_may_be_written_in_any_usual_way_and_be_the_data_folder_itself(glue, folder):
    (glue / "SST-2").rename(glue / "aside")
    assert len(load_glue("sst2", glue / "aside").train) == 2
    (glue / "aside").rename(glue / folder)
    assert len(load_glue("sst-2", glue).train) == len(load_glue("sst2", glue / folder).train) == 2


def test_the_folder_of_another_task_and_two_of_this_one_are_refused(glue):
    with pytest.raises(DataError, match="no data of the task 'rte'"):
        load_glue("rte", glue / "QNLI")
    shutil.copytree(glue / "SST-2", glue / "sst2")
    with pytest.raises(DataError, match=r"2 folders for the task 'sst2' \(SST-2, sst2\)"):
        load_glue("sst2", glue)


def test_a_missing_folder_says_what_was_looked_for_and_what_is_there(glue):
    shutil.rmtree(glue / "MRPC")
    with pytest.raises(DataError) as caught:
        load_glue("mrpc", glue)
    message = str(caught.value)
    assert f"looked in {glue} for a folder MRPC or mrpc (in any case), and for train.tsv, dev.tsv, test.tsv" in message
    assert "the folders there: CoLA, MNLI, QNLI, QQP, RTE, SST-2, STS-B" in message
    assert "\n" not in message


@pytest.mark.parametrize(("place", "what"), [("nowhere", "does not exist"), ("glue/RTE/dev.tsv", "is not a folder")])
def test_a_data_folder_that_is_none_is_refused(glue, place, what):
    with pytest.raises(DataError, match=f"{what}; give the folder that holds RTE/ with --data-dir"):
        load_glue("rte", glue.parent / place)


def test_an_absent_test_file_is_fine_and_any_other_is_not(glue):
    (glue / "RTE" / "test.tsv").unlink()
    assert tuple(load_glue("rte", glue).splits) == ("train", "dev")
    assert load_glue("rte", glue, splits=["dev"]).notes == ("rte dev: 1 examples, the official split has 277",)
    with pytest.raises(DataError, match="split 'test' of the task 'rte': no file"):
        load_glue("rte", glue, splits=["test"])
    (glue / "MNLI" / "dev_mismatched.tsv").unlink()
    with pytest.raises(DataError, match=r"'dev_mismatched' .* in that folder: dev_matched\.tsv, test_matched"):
        load_glue("mnli", glue)
    assert tuple(load_glue("mnli", glue, splits=["dev_matched"]).splits) == ("dev_matched",)


def test_unknown_tasks_and_splits_name_what_exists(glue):
    with pytest.raises(UnknownNameError, match="no split 'dev'; splits are: train, dev_matched, dev_mismatched"):
        load_glue("mnli", glue, splits=["dev"])
    with pytest.raises(UnknownNameError, match="'wnli' is no GLUE task; these are: cola, sst2"):
        load_glue("wnli", glue)


def test_all_wrong_labels_of_a_file_are_told_together(glue):
    path = glue / "SST-2" / "train.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"row {i}\t{i}\n" for i in range(5)))
    with pytest.raises(DataError) as caught:
        load_glue("sst2", glue)
    assert faults_of(caught.value) == [f"{path}:{i + 2}: the label '{i}' is none of: 0, 1" for i in (2, 3, 4)]
