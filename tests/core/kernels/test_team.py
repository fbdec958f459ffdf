import concurrent.futures
import os
import signal
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from supermask.core.counter_random import key_words
from supermask.core.kernels import cpu, reference, team

KEY = key_words(5, "w")
COUNT = (1 << 18) + 77  # enough for several threads
POOLS = ("with_openmp", "without_openmp")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def with_openmp() -> None:
    return


@pytest.fixture
def without_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_openmp", lambda: None)


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COUNT, generator=generator), 4 * torch.randn(COUNT, generator=generator)


def results(seed: int = 0) -> list[Tensor]:
    """What every operation makes of one problem."""
    weight, logits = problem(seed)
    return [
        cpu.draw_keep_mask(logits, KEY),
        cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.float32),
        cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.bfloat16),
        cpu.mask_logit_gradient(weight, weight, logits, through=True),
    ]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))


def test_torchs_own_openmp_is_found() -> None:
    assert not torch.backends.openmp.is_available() or team._openmp() is not None


def test_as_many_threads_as_torch_has_and_as_are_worth_it(threads: None) -> None:
    torch.set_num_threads(3)
    assert [team.threads_for(weights) for weights in (0, 1000, 1 << 16, 1 << 30)] == [1, 1, 2, 3]
    torch.set_num_threads(1)
    assert team.threads_for(1 << 30) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("pool", POOLS)
def test_the_number_of_threads_makes_no_difference(
    threads: None, pool: str, number: int, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(pool)
    torch.set_num_threads(1)
    expected = results()
    torch.set_num_threads(number)
    assert same(results(), expected)
    if pool == "without_openmp" and number > 1:
        assert any(thread.name.startswith("supermask-kernels") for thread in threading.enumerate())


@pytest.mark.parametrize("pool", POOLS)
def test_several_threads_of_pythons_may_call_at_once(threads: None, pool: str, request: pytest.FixtureRequest) -> None:
    """Each with its own problem, and each gets what one alone gets."""
    request.getfixturevalue(pool)
    torch.set_num_threads(2)
    expected = [results(seed) for seed in range(4)]
    together = threading.Barrier(4)

    def work(seed: int) -> bool:
        together.wait()
        return all(same(results(seed), expected[seed]) for _ in range(5))

    with concurrent.futures.ThreadPoolExecutor(4) as workers:
        assert all(workers.map(work, range(4)))


def test_what_a_helping_thread_has_not_begun_is_called_off(threads: None, without_openmp: None) -> None:
    # Every helper is busy elsewhere: the work gets done all the same, by this thread.
    torch.set_num_threads(2)
    weight, logits = problem()
    busy = threading.Event()
    team._pool(1).submit(busy.wait)
    try:
        masked = cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.float32)
    finally:
        busy.set()
    assert torch.equal(masked, reference.draw_masked_weight(weight, logits, KEY, dtype=torch.float32))


def test_an_interrupt_waits_until_nobody_writes_any_more(threads: None, without_openmp: None) -> None:
    torch.set_num_threads(2)
    helper_is_in, helper_may_go = threading.Event(), threading.Event()
    left: list[str] = []

    def call(address: int) -> None:
        if threading.current_thread() is threading.main_thread():
            helper_is_in.wait()
            threading.Timer(0.2, helper_may_go.set).start()
            raise KeyboardInterrupt
        helper_is_in.set()
        helper_may_go.wait()
        left.append("helper")

    with pytest.raises(KeyboardInterrupt):
        team._spread(call, 0, 2)
    assert left == ["helper"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_draws_the_same_although_openmp_is_lost_to_it(threads: None) -> None:
    torch.set_num_threads(2)
    weight, logits = problem()
    expected = cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.float32)
    assert team._openmp() is not None  # its threads are up now, and will not be in the child
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # rather than wait for ever
        masked = cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.float32)
        alone = team._openmp() is None
        torch.set_num_threads(1)  # torch itself would wait for ever for the threads that are gone
        os.write(write, b"1" if alone and torch.equal(masked, expected) else b"0")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"1"
    assert os.waitpid(child, 0)[1] == 0
