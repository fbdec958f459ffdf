import pytest

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.methods import Supermask
from supermask.study import load_study, overridden, runs_of, study_names
from supermask.study.expansion import WITHOUT_EFFECT, address, narrowed, planned_steps, run_key, shared_runs
from supermask.training import TrainingConfig
from tiny_studies import changed, tiny_study

METHOD = Supermask().describe()
SAME_TRAININGS = ("table4", "table5", "figure3", "figure4", "figure5", "figure6", "figure7", "figure9")


def test_runs_come_task_by_task_and_are_called_as_records_are() -> None:
    runs = runs_of(load_study("table5"))
    assert [(run.task, run.label) for run in runs[:4]] == [
        ("mnli", "full-seed0"),
        ("mnli", "full-lr1e-4-seed0"),
        ("mnli", "supermask-seed0"),
        ("qqp", "full-seed0"),
    ]
    assert runs[2].method["eps"] == 1e-8 and runs[2].method["select"] == ["matrices", "pooler"]  # defaults filled in
    assert (runs[1].config.learning_rate, runs[0].config.learning_rate, runs[0].seed) == (1e-4, 2e-5, 0)


def test_studies_share_their_trainings() -> None:
    masks = {
        task: {run.key for run in runs_of(load_study("table5")) if run.arm == "supermask" and run.task == task}
        for task in ("mnli", "rte")
    }
    for name in SAME_TRAININGS:
        keys = {run.key for run in runs_of(load_study(name))}
        assert masks["mnli"] | masks["rte"] <= keys, name
    studies = [load_study(name) for name in SAME_TRAININGS]
    assert len(shared_runs(studies)) == 8 * 7  # 2 baselines, 5 masks
    assert sum(len(runs_of(study)) for study in studies) == 176
    everything = shared_runs([load_study(name) for name in study_names()])
    assert len({run.key for run in everything}) == len(everything)
    assert [run.seed for run in everything] == sorted(run.seed for run in everything)


def test_settings_without_effect_on_the_result_do_not_make_another_run() -> None:
    study = load_study("table6")
    same = changed(study, config={"logging_steps": 7, "eval_batch_size": 3, "tensorboard": True, "checkpoint_steps": 9})
    assert [run.key for run in runs_of(same)] == [run.key for run in runs_of(study)]
    other = changed(study, config={"batch_size": 16})
    assert not {run.key for run in runs_of(other)} & {run.key for run in runs_of(study)}


def test_overrides_replace_base_tasks_and_seeds() -> None:
    study = load_study("table3")
    other = overridden(study, base="other", tasks=["RTE"], seeds=[3, 1, 3])
    assert (other.base, other.tasks, other.seeds) == ("other", ("rte",), (3, 1))
    assert other.expected == ()  # all of them are of MRPC
    assert {(run.task, run.seed) for run in runs_of(other)} == {("rte", 3), ("rte", 1)}
    assert study == load_study("table3")
    with pytest.raises(UnknownNameError, match="no task is called 'mrcp'"):
        overridden(study, tasks=["mrcp"])
    with pytest.raises(ConfigurationError, match="seeds"):
        overridden(study, seeds=[])


def test_narrowing_keeps_what_a_study_has() -> None:
    table5, table3 = load_study("table5"), load_study("table3")
    small = narrowed(table5, ["rte", "sst-2", "probe-sentiment"])
    assert small is not None and small.tasks == ("sst2", "rte")
    assert {number.task for number in small.expected} == {"sst2", "rte"}
    assert narrowed(table3, ["rte"]) is None


def test_steps_are_planned_from_the_number_of_examples() -> None:
    (run,) = [run for run in runs_of(load_study("table1")) if run.task == "mnli" and run.arm == "full"]
    assert (planned_steps(run), planned_steps(run, 9888), planned_steps(run, 1)) == (36_816, 927, 3)
    probe = runs_of(tiny_study("b", config={}))[0]
    with pytest.raises(ConfigurationError, match="is not known; pass examples="):
        planned_steps(probe)


def test_every_setting_that_decides_the_result_changes_the_key() -> None:
    other = {"epochs": 2, "max_steps": 5, "batch_size": 16, "gradient_accumulation": 2, "learning_rate": 1e-4}
    other |= {"head_learning_rate": 1e-4, "head_bias": "as_loaded", "warmup": 0.2, "weight_decay": 0.0, "seed": 1}
    other |= {"adam_epsilon": 1e-8, "max_grad_norm": 0.0, "max_length": 64, "gradient_checkpointing": True}
    other |= {"mask_optimizer_state": "8bit", "mask_draws": "per_rank"}
    # Precision is compared by itself, as `auto` stands for another on each machine.
    assert {*other, *WITHOUT_EFFECT, "precision"} == set(TrainingConfig.model_fields)
    plain = run_key("mrpc", 1, METHOD, TrainingConfig())
    keys = {run_key("mrpc", 1, METHOD, TrainingConfig(**{name: value})) for name, value in other.items()}
    assert len(keys | {plain}) == len(other) + 1
    without = {"checkpoint_steps": 5, "logging_steps": 5, "eval_batch_size": 5, "tensorboard": True}
    assert set(without) == WITHOUT_EFFECT
    assert run_key("mrpc", 1, METHOD, TrainingConfig(**without)) == plain


def test_task_version_and_method_change_the_key() -> None:
    config = TrainingConfig()
    keys = {
        run_key("mrpc", 1, METHOD, config),
        run_key("rte", 1, METHOD, config),
        run_key("mrpc", 2, METHOD, config),
        run_key("mrpc", 1, Supermask(eps=1e-7).describe(), config),
    }
    assert len(keys) == 4


def test_everything_else_changes_the_address() -> None:
    plain = {
        "base_fingerprint": "a",
        "data": {"train": "1", "dev": "2"},
        "precision": "bf16",
        "draws": 10,
        "version": "1",
    }
    others = [
        *({"base_fingerprint": "b"}, {"data": {"train": "1", "dev": "3"}}, {"data": {"train": "1"}}),
        *({"precision": "fp32"}, {"draws": 9}, {"draws": None}, {"version": "2"}),
    ]
    names = {address("key", **{**plain, **other}) for other in [{}, *others]}
    assert len(names) == len(others) + 1
    assert address("key", **{**plain, "data": {"dev": "2", "train": "1"}}) == address("key", **plain)
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)


def test_the_key_of_the_default_run_stays_what_it_is() -> None:
    """Records are found by it, and folders of runs that were cut off are called by the address."""
    assert run_key("mrpc", 1, {"kind": "freezing", "exclude": []}, TrainingConfig()) == "e8420b9aac3f2a65"
