"""`supermask export`: a stored delta and its base as a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from supermask.cli import options
from supermask.cli.options import option, refuse_together
from supermask.cli.printing import answer, percent, shown_bytes

if TYPE_CHECKING:
    from supermask.deltas import TaskDelta
    from supermask.models import Base

__all__ = ["EXAMPLES", "OutputFolder", "export"]

EXAMPLES = (
    "supermask export sentiment --format onnx --output sentiment-onnx",
    "supermask export pruned --format sparse --output pruned-model --json",
)

OutputFolder = Annotated[Path, option("Output", "DIR", "New folder for the model.")]
_Form = Literal["checkpoint", "onnx", "sparse"]
_OPSET = "Version of ONNX's operators. \\[default: the exporter's choice]"


def export(
    delta: options.DeltaPath,
    output: OutputFolder,
    form: Annotated[_Form, option("Output", None, "What to write.", name="--format")] = "checkpoint",
    opset: Annotated[int | None, option("Output", "N", _OPSET)] = None,
    no_verify: Annotated[bool, option("Output", "", "Do not run the ONNX file and compare.")] = False,
    base: options.StoredBase = None,
    revision: options.Revision = None,
    allow_new: options.AllowNew = None,
    as_json: options.AsJson = False,
) -> None:
    """Merge a stored delta into its base and write the model for other programs.

    checkpoint is a plain Hugging Face folder, as `supermask apply` writes it.
    onnx is a graph for onnxruntime, run and compared before it is kept.
    sparse keeps zeros as masks: smaller, exact, and complete without the base.
    The folder appears whole or not at all.
    """
    from supermask.cli.stored import load_delta
    from supermask.interop import check_new_folder
    from supermask.prediction import stored_base

    if form != "onnx":
        refuse_together(f"--format {form}", {"--opset": opset, "--no-verify": no_verify})
    check_new_folder(output)
    stored = load_delta(delta)
    loaded = stored_base(stored.document, base, revision, allow_new)
    facts, lines = _write(form, loaded, stored, output, opset=opset, verify=not no_verify)
    files = {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    task = stored.task.model_dump(mode="json")
    about = {"format": form, "output": str(output), "task": task, "delta": stored.digest}
    title = f"{stored.task.name or 'the task'} merged into {stored.document.base.name}: {output}/"
    sizes = [f"  {name}  {shown_bytes(size)}" for name, size in files.items()]
    answer({**about, **facts, "files": files}, [title, *sizes, *lines], as_json=as_json)


def _write(
    form: str, base: Base, delta: TaskDelta, output: Path, *, opset: int | None, verify: bool
) -> tuple[dict[str, Any], list[str]]:
    """Write one form; returns what is to be told of it, for programs and for people."""
    from supermask.interop import read_sparse_document, save_checkpoint, save_onnx, save_sparse_checkpoint

    if form == "onnx":
        result = save_onnx(base, delta, output, opset=opset, verify=verify)
        difference = result.largest_difference
        checked = "not compared" if difference is None else f"logits within {difference:.1e} of PyTorch's"
        facts = {"opset": result.opset, "inputs": list(result.inputs), "largest_difference": difference}
        return facts, [
            f"opset {result.opset}, inputs {', '.join(result.inputs)}; {checked}",
            "run it with onnxruntime.InferenceSession, and load the folder's tokenizer with AutoTokenizer",
        ]
    if form == "sparse":
        save_sparse_checkpoint(base, delta, output)
        document = read_sparse_document(output)
        facts = {name: getattr(document, name) for name in ("zeros", "weights", "nbytes", "dense_nbytes")}
        share = percent(document.nbytes / document.dense_nbytes)
        dense = shown_bytes(document.dense_nbytes)
        return facts, [
            f"{document.zeros:,} zeros are kept as masks; {share}% of the dense model's {dense}",
            "load it with supermask.interop.load_sparse_checkpoint, and its tokenizer with AutoTokenizer",
        ]
    save_checkpoint(base, delta, output)
    return {}, ["load it with AutoModelForSequenceClassification.from_pretrained and AutoTokenizer.from_pretrained"]
