from __future__ import annotations

import os
import threading
import time

import pytest
import torch

from supermask.deltas import workers
from supermask.deltas.workers import Step, default_threads, run_steps, undisturbed
from supermask.errors import ConfigurationError


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_every_step_runs_once_before_it_returns(threads: int | None) -> None:
    done: list[int] = []
    run_steps([Step(lambda index=index: done.append(index), weights=1 << 20) for index in range(50)], threads=threads)
    assert sorted(done) == list(range(50))
    run_steps([], threads=threads)


def test_steps_start_in_order() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def step(index: int) -> None:
        with lock:
            started.append(index)
        time.sleep(0.001)

    run_steps([Step(lambda index=index: step(index), weights=1) for index in range(40)], threads=1)
    assert started == list(range(40))


def test_no_more_weights_are_in_hand_than_allowed() -> None:
    in_hand: list[int] = []
    most: list[int] = []
    together: list[int] = []
    lock = threading.Lock()

    def step(weights: int) -> None:
        with lock:
            in_hand.append(weights)
            most.append(sum(in_hand))
            together.append(len(in_hand))
        time.sleep(0.002)
        with lock:
            in_hand.remove(weights)

    sizes = [3, 3, 3, 50, 1, 1, 1, 1, 9, 4, 4]
    run_steps(
        [Step(lambda weights=weights: step(weights), weights=weights) for weights in sizes],
        threads=4,
        weights_at_a_time=10,
    )
    assert max(together) > 1
    assert sorted(set(most), reverse=True)[0] == 50
    assert all(total <= 10 for total in most if total != 50)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_in_order_is_raised_and_nothing_runs_any_more(threads: int) -> None:
    done: list[int] = []

    def step(index: int) -> None:
        if index == 1:  # fails late, after the one behind it
            time.sleep(0.02)
            raise ValueError("one")
        if index == 2:
            raise ValueError("two")
        done.append(index)

    before = threading.active_count()
    with pytest.raises(ValueError, match="one"):
        run_steps([Step(lambda index=index: step(index), weights=1) for index in range(30)], threads=threads)
    assert threading.active_count() == before
    assert 28 not in done


def test_an_interrupt_goes_before_other_errors() -> None:
    def step(index: int) -> None:
        raise KeyboardInterrupt if index else ValueError

    barrier = threading.Barrier(2)

    def together(index: int) -> None:
        barrier.wait(10)
        step(index)

    with pytest.raises(KeyboardInterrupt):
        run_steps([Step(lambda index=index: together(index), weights=1) for index in range(2)], threads=2)


def test_an_interrupt_of_the_waiting_thread_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = threading.Thread.join
    interrupts = iter([KeyboardInterrupt, KeyboardInterrupt])
    begun, done = threading.Event(), threading.Event()

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if error := next(interrupts, None):
            raise error
        joined(thread, timeout)

    def slow() -> None:
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
        else:
            begun.set()
            time.sleep(0.05)
            done.set()

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", join)
        with pytest.raises(KeyboardInterrupt):
            run_steps([Step(slow, weights=1)] * 2, threads=2)
    assert done.is_set()


def test_what_is_undisturbed_runs_to_its_end_and_then_tells() -> None:
    calls: list[int] = []

    def action() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        undisturbed(action)
    assert len(calls) == 3
    undisturbed(action)
    assert len(calls) == 4
    with pytest.raises(ZeroDivisionError):
        undisturbed(lambda: 1 // 0)


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_threads_have_the_callers_modes(inference: bool, gradients: bool) -> None:
    seen: set[tuple[bool, bool]] = set()

    def look() -> None:
        time.sleep(0.001)
        seen.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with torch.set_grad_enabled(gradients), torch.inference_mode(inference):
        run_steps([Step(look, weights=1)] * 20, threads=4)
        assert seen == {(torch.is_inference_mode_enabled(), torch.is_grad_enabled())}


def test_threads_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert [default_threads(weights) for weights in (0, 1 << 20, 5 << 20, 1 << 30)] == [1, 1, 3, 3]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert default_threads(1 << 30) == workers._MOST_THREADS == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_threads(1 << 30) == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads: int) -> None:
    with pytest.raises(ConfigurationError, match="threads must be at least 1"):
        run_steps([Step(lambda: None, weights=1)], threads=threads)


@pytest.mark.gpu
def test_threads_use_the_callers_stream() -> None:
    stream = torch.cuda.Stream()
    seen: set[int] = set()
    device = torch.device("cuda", torch.cuda.current_device())

    def look() -> None:
        time.sleep(0.001)
        seen.add(torch.cuda.current_stream(device).cuda_stream)

    with torch.cuda.stream(stream):
        run_steps([Step(look, weights=1)] * 20, threads=4, devices=[device])
    assert seen == {stream.cuda_stream}
