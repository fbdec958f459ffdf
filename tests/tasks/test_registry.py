import pytest

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.tasks import Task, find_task, known_tasks, load_task

from .glue.official_layout import write_glue


def test_known_tasks_are_glue_and_the_probes():
    names = [task.name for task in known_tasks()]
    assert names[:8] == ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
    probes = ("acceptability", "entailment", "paraphrase", "sentiment", "similarity")
    assert sorted(names[8:]) == [f"probe-{name}" for name in probes]


def test_a_task_is_found_by_any_usual_spelling_and_an_unknown_name_lists_close_ones_and_all():
    for name, found in (("SST-2", "sst2"), ("sts-b", "stsb"), ("Probe_Sentiment", "probe-sentiment")):
        assert find_task(name).name == found
    with pytest.raises(UnknownNameError) as caught:
        find_task("mprc")
    message = str(caught.value)
    assert message.startswith("no task is called 'mprc'; did you mean 'mrpc'")
    assert "tasks are: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, probe-" in message
    assert "\n" not in message
    with pytest.raises(UnknownNameError, match="'zzzzzz'; tasks are"):
        load_task("zzzzzz")


def test_glue_loads_by_name_or_task_but_not_by_another_task_of_its_name(tmp_path):
    folder = write_glue(tmp_path)
    assert load_task("RTE", folder) == load_task(find_task("rte"), folder)
    assert tuple(load_task("mnli", folder, splits=["dev_matched"]).splits) == ("dev_matched",)
    own = Task(name="rte", kind="classification", label_names=("a", "b"), metrics=("accuracy",))
    with pytest.raises(ConfigurationError, match="not the known one of that name"):
        load_task(own)


def test_a_probe_is_generated_and_takes_no_folder(tmp_path):
    data = load_task("probe-sentiment")
    assert data.task == find_task("probe-sentiment")
    assert tuple(load_task("probe-sentiment", splits=["dev"]).splits) == ("dev",)
    assert load_task("probe-sentiment", splits=["dev"])["dev"] == data["dev"]
    with pytest.raises(ConfigurationError, match="is generated, not read"):
        load_task("probe-sentiment", tmp_path)
    with pytest.raises(UnknownNameError, match="no split 'validation'"):
        load_task("probe-sentiment", splits=["validation"])
