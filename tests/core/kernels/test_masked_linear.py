"""A masked linear layer gives the numbers of a linear layer over the masked weight, and keeps no copy of it."""

import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from supermask.core import DrawKey
from supermask.core.counter_random import KeyWords
from supermask.core.kernels import masked_linear as module
from supermask.core.kernels.masked_linear import masked_linear
from supermask.core.kernels.ops import TracedKey, compute_dtype, key_tensor, masked_by_logits

KEY = DrawKey(seed=3, step=5)
NAME = "layer.weight"
WORDS = KEY.words(NAME)


def problem(
    *shape: int, transposed: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs of the shape, weight, mask logits and bias, 7 outputs."""
    generator = torch.Generator().manual_seed(1)
    size = (shape[-1], 7) if transposed else (7, shape[-1])
    inputs, weight, bias = (torch.randn(*s, generator=generator).to(dtype) for s in (shape, size, (7,)))
    logits = 2 * torch.randn(*size, generator=generator)
    return inputs.requires_grad_(), weight, logits.requires_grad_(), bias.requires_grad_()


def plainly(inputs: Tensor, weight: Tensor, logits: Tensor, bias: Tensor | None, *, transposed: bool = False) -> Tensor:
    masked = masked_by_logits(weight, logits, WORDS, dtype=weight.dtype, through=True)
    return functional.linear(inputs, masked.t() if transposed else masked, bias)


def gradients(layer: Callable[..., Tensor], tensors: tuple[Tensor | None, ...], **options: Any) -> list[Tensor | None]:
    """Output, and what comes of a loss that no two entries have the same part in."""
    leaves = [None if tensor is None else tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]
    output = layer(*leaves, **options)
    (output.float().square() * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
    return [output.detach(), *(None if leaf is None else leaf.grad for leaf in leaves)]


def assert_same(ours: list[Tensor | None], theirs: list[Tensor | None]) -> None:
    for first, second in zip(ours, theirs, strict=True):
        if first is None or second is None:
            assert first is second
        else:
            assert first.dtype == second.dtype
            assert torch.equal(first, second)


def masked(*tensors: Tensor | None, **options: Any) -> Tensor:
    return masked_linear(*tensors, WORDS, through=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (2, 1, 3, 5), (0, 5)])
def test_the_numbers_are_those_of_a_linear_layer(shape: tuple[int, ...], transposed: bool, recompute: bool) -> None:
    tensors = problem(*shape, transposed=transposed)
    options = {"through": True, "transposed": transposed, "recompute": recompute}
    for given in (tensors, (*tensors[:3], None)):
        theirs = gradients(plainly, given, transposed=transposed)
        for key in (WORDS, TracedKey(key_tensor(KEY), KEY.seed, NAME)):  # the second as in a compiled graph
            assert_same(gradients(lambda *t, key=key: masked_linear(*t, key, **options), given), theirs)


@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize(
    ("weight", "inputs"), [("float32", "float32"), ("float32", "bfloat16"), ("float16", "float32")]
)
def test_autocast_gives_what_it_gives_a_linear_layer(weight: str, inputs: str, recompute: bool) -> None:
    x, w, logits, bias = problem(2, 3, 5)
    x = x.detach().to(getattr(torch, inputs)).requires_grad_()
    tensors = (x, w.to(getattr(torch, weight)), logits, bias)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = gradients(masked, tensors, recompute=recompute), gradients(plainly, tensors)
    assert ours[0] is not None and ours[0].dtype == torch.bfloat16
    assert ours[3] is not None and ours[3].dtype == torch.float32
    assert_same(ours, theirs)


def test_a_half_precision_base_stays_in_it() -> None:
    tensors, half = problem(2, 3, 5, dtype=torch.bfloat16), torch.bfloat16
    ours = gradients(masked, tensors)
    assert [None if t is None else t.dtype for t in ours] == [half, half, None, torch.float32, half]
    assert_same(ours, gradients(plainly, tensors))


@pytest.mark.parametrize(("autocast", "recompute"), [(False, True), (True, True), (False, False)])
def test_the_masked_weight_is_kept_only_if_it_is_to_be(autocast: bool, recompute: bool) -> None:
    inputs, weight, logits, bias = problem(2, 3, 5)
    saved: list[Tensor] = []
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda kept: kept),
    ):
        output = masked(inputs, weight, logits, bias, recompute=recompute)
    known = {tensor.untyped_storage().data_ptr() for tensor in (weight, logits)}
    rest = [tensor for tensor in saved if tensor.untyped_storage().data_ptr() not in known]
    assert [tuple(tensor.shape) for tensor in rest] == ([(6, 5)] if recompute else [(6, 5), (7, 5)])
    assert rest[0].dtype == output.dtype
    del saved[:], rest[:]
    output.sum().backward()


def test_nothing_is_drawn_again_for_inputs_that_need_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a model's first layer, over a frozen embedding."""
    drawn = []
    draw = module._masked
    monkeypatch.setattr(module, "_masked", lambda *given: drawn.append(1) or draw(*given))
    for needs, draws in ((True, 2), (False, 1)):
        inputs, *others = problem(4, 5)
        masked_linear(inputs.detach().requires_grad_(needs), *others, WORDS, through=True).sum().backward()
        assert len(drawn) == draws
        drawn.clear()


@pytest.mark.parametrize("recompute", [True, False])
def test_the_output_may_be_written_in_place(recompute: bool) -> None:
    """As DeBERTa does with a view of it."""

    def scaled(layer: Callable[..., Tensor], *tensors: Tensor, **options: Any) -> Tensor:
        output = layer(*tensors, **options).transpose(0, 1)
        output /= 3.0
        return output

    tensors = problem(2, 3, 5)
    ours = gradients(functools.partial(scaled, masked), tensors, recompute=recompute)
    assert_same(ours, gradients(functools.partial(scaled, plainly), tensors))


@pytest.mark.parametrize("reentrant", [True, False])
def test_under_a_checkpoint_nothing_of_the_layer_is_kept(reentrant: bool) -> None:
    tensors = problem(2, 3, 5)
    saved: list[Tensor] = []

    def layer(*given: Tensor) -> Tensor:
        def twice(inputs: Tensor) -> Tensor:
            once = masked(inputs, *given[1:])
            return torch.tanh(once) + once

        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda kept: kept):
            return checkpoint(twice, given[0], use_reentrant=reentrant)

    ours = gradients(layer, tensors)
    assert {tuple(tensor.shape) for tensor in saved} <= {(2, 3, 5)}
    theirs = gradients(lambda *t: torch.tanh(plainly(*t)) + plainly(*t), tensors)
    for first, second in zip(ours, theirs, strict=True):
        torch.testing.assert_close(first, second)


def test_saved_tensors_may_go_elsewhere_meanwhile() -> None:
    tensors = problem(2, 3, 5)

    def layer(*given: Tensor) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            return masked(*given)

    assert_same(gradients(layer, tensors), gradients(plainly, tensors))


def test_threads_do_not_meet() -> None:
    """As under `nn.DataParallel`: one model, several forward and backward passes at once, here of different draws."""
    inputs, weight, logits, bias = problem(16, 40)
    keys = [DrawKey(step=step).words(NAME) for step in range(6)]

    def work(key: KeyWords) -> list[Tensor | None]:
        return gradients(lambda *t: masked_linear(*t, key, through=True), (inputs, weight, logits, bias))

    alone = [work(key) for key in keys]
    with concurrent.futures.ThreadPoolExecutor(len(keys)) as threads:
        for index, found in enumerate(threads.map(work, keys * 20)):
            assert_same(found, alone[index % len(keys)])


def test_the_thresholded_mask_works_too() -> None:
    inputs, weight, logits, bias = problem(2, 3, 5)
    output = masked_linear(inputs, weight, logits, bias, None, through=False)
    assert torch.equal(output, functional.linear(inputs, torch.where(logits > 0, weight, 0.0), bias))
    assert compute_dtype(weight) == output.dtype


def test_layers_of_all_sizes_share_memory_without_seeing_each_other() -> None:
    """Masked weights are written to one piece of memory in turn; outputs and gradients must be nobody else's."""
    results = []
    for layer in (masked, plainly):
        leaves, outputs = [], []
        for width, dtype in ((5, torch.float32), (40, torch.float32), (5, torch.bfloat16), (7, torch.float32)):
            tensors = [
                tensor.detach().requires_grad_(tensor.requires_grad) for tensor in problem(3, width, dtype=dtype)
            ]
            leaves.append(tensors)
            outputs.append(layer(*tensors))
        torch.stack([output.float().square().sum() for output in outputs]).sum().backward()
        results.append([*outputs, *(tensor.grad for tensors in leaves for tensor in tensors)])
    assert_same(*results)
    ours = [tensor for tensor in results[0] if tensor is not None]
    assert len({tensor.untyped_storage().data_ptr() for tensor in ours}) == len(ours)


def test_tensors_without_memory_leave_nothing_behind() -> None:
    from torch._subclasses import FakeTensorMode

    tensors = problem(3, 11)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(tensor) for tensor in tensors]
        assert module._rooms.room_for(fakes[1], torch.float32) is None
    room = module._rooms.room_for(tensors[1], torch.float32)
    assert type(room) is Tensor and room.shape == (7, 11)


# The compiler makes an object that torch would rather it did not.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_a_compiled_graph_keeps_no_masked_weight() -> None:
    """From forward to backward pass a graph hands inputs of its own, and activations; a draw would be one too many."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    kept: list[set[tuple[int, ...]]] = []

    def forward_compiler(graph: Any, examples: Any) -> Any:
        given = {node for node in graph.graph.nodes if node.op == "placeholder"}
        handed = graph.graph.output_node().args[0]
        kept.append({tuple(node.meta["val"].shape) for node in handed if node not in given})
        return graph.forward

    backend = aot_autograd(
        fw_compiler=lambda graph, examples: make_boxed_func(forward_compiler(graph, examples)),
        bw_compiler=lambda graph, examples: make_boxed_func(graph.forward),
        partition_fn=min_cut_rematerialization_partition,
    )
    inputs, weight, logits, bias = problem(4, 5)
    draw = key_tensor(KEY)

    def layer(inputs: Tensor, weight: Tensor, logits: Tensor, bias: Tensor, draw: Tensor) -> Tensor:
        key = TracedKey(draw, KEY.seed, NAME)
        return torch.tanh(masked_linear(inputs, weight, logits, bias, key, through=True))

    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    ours = gradients(lambda *t: compiled(*t, draw), (inputs, weight, logits, bias))
    assert_same(ours, gradients(lambda *t: torch.tanh(plainly(*t)), (inputs, weight, logits, bias)))
    assert kept == [{(4, 7), (4, 5)}]  # tanh's output, and the inputs as rows; the weight's shape would be (7, 5)
