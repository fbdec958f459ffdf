import os
import threading
import time

import pytest
import torch

from supermask.deltas import threads as module
from supermask.deltas.threads import default_threads, run_in_threads, undisturbed
from supermask.errors import ConfigurationError


def tensors(*weights: int) -> dict[str, torch.Tensor]:
    return {str(number): torch.zeros(1).expand(size) for number, size in enumerate(weights)}


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_everything_is_done_once_before_it_returns_and_started_in_order(threads: int | None) -> None:
    done: list[str] = []
    run_in_threads(done.append, tensors(*[1 << 20] * 50), threads=threads)
    assert (done if threads == 1 else sorted(done, key=int)) == [str(number) for number in range(50)]
    run_in_threads(done.append, {}, threads=threads)
    assert len(done) == 50


def test_no_more_weights_are_in_hand_than_allowed() -> None:
    sizes = tensors(3, 3, 3, 50, 1, 1, 1, 1, 9, 4, 4)
    in_hand: list[int] = []
    seen: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        with lock:
            in_hand.append(sizes[name].numel())
            seen.append((sum(in_hand), len(in_hand)))
        time.sleep(0.002)
        with lock:
            in_hand.remove(sizes[name].numel())

    run_in_threads(work, sizes, threads=4, at_a_time=10)
    assert max(together for _, together in seen) > 1
    assert {(total, together) for total, together in seen if total > 10} == {(50, 1)}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_in_order_is_raised_and_nothing_runs_any_more(threads: int) -> None:
    done: list[str] = []

    def work(name: str) -> None:
        if name in "12":  # the first fails late, after the one behind it
            time.sleep(0.02 if name == "1" else 0)
            raise ValueError(name)
        done.append(name)

    before = threading.active_count()
    with pytest.raises(ValueError, match="1"):
        run_in_threads(work, tensors(*[1] * 30), threads=threads)
    assert threading.active_count() == before
    assert "28" not in done


def test_an_interrupt_goes_before_other_errors() -> None:
    barrier = threading.Barrier(2)

    def work(name: str) -> None:
        barrier.wait(10)
        raise KeyboardInterrupt if name == "1" else ValueError

    with pytest.raises(KeyboardInterrupt):
        run_in_threads(work, tensors(1, 1), threads=2)


def test_an_interrupt_of_the_waiting_thread_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    joined, interrupts = threading.Thread.join, iter([KeyboardInterrupt, KeyboardInterrupt])
    begun, done = threading.Event(), threading.Event()

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if error := next(interrupts, None):
            raise error
        joined(thread, timeout)

    def slow(name: str) -> None:
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
        else:
            begun.set()
            time.sleep(0.05)
            done.set()

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", join)
        with pytest.raises(KeyboardInterrupt):
            run_in_threads(slow, tensors(1, 1), threads=2)
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

    def look(name: str) -> None:
        time.sleep(0.001)
        seen.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with torch.set_grad_enabled(gradients), torch.inference_mode(inference):
        run_in_threads(look, tensors(*[1] * 20), threads=4)
        assert seen == {(torch.is_inference_mode_enabled(), torch.is_grad_enabled())}


def test_threads_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert [default_threads(weights) for weights in (0, 1 << 20, 5 << 20, 1 << 30)] == [1, 1, 3, 3]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert default_threads(1 << 30) == module._MOST_THREADS == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_threads(1 << 30) == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads: int) -> None:
    with pytest.raises(ConfigurationError, match="threads must be at least 1"):
        run_in_threads(print, tensors(1), threads=threads)


@pytest.mark.gpu
def test_threads_use_the_callers_stream() -> None:
    stream, seen = torch.cuda.Stream(), set[int]()
    device = torch.device("cuda", torch.cuda.current_device())

    def look(name: str) -> None:
        time.sleep(0.001)
        seen.add(torch.cuda.current_stream(device).cuda_stream)

    with torch.cuda.stream(stream):
        run_in_threads(look, {str(n): torch.zeros(1, device=device) for n in range(20)}, threads=4)
    assert seen == {stream.cuda_stream}
