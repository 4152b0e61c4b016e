"""A module as an ONNX program."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 18


def onnx_program(
    module: nn.Module,
    given: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Sequence[Mapping[int, Any]],
    opset: int = OPSET,
) -> "torch.onnx.ONNXProgram":
    """Trace what `module` does with arguments like `given` to a program.

    Args:
        module: tensors in, a tuple of tensors out.
        given: example arguments.
        inputs: the arguments' names.
        outputs: the results' names.
        dynamic: the axes of each argument that may have any size, with their names (or `torch.export.Dim`).
        opset: ONNX's operator set.
    """
    import onnx
    from onnxscript import opset18 as op

    def searchsorted(knots: Any, values: Any, right: Any = None, **_: Any) -> Any:
        # From the right, as decisions ask for it: of knots (K, M), how many are not above each of the values (K, N).
        last: Any = op.Constant(value_ints=[-1])
        middle: Any = op.Constant(value_ints=[-2])
        below: Any = op.Cast(
            op.GreaterOrEqual(op.Unsqueeze(values, last), op.Unsqueeze(knots, middle)),
            to=onnx.TensorProto.INT64,
        )
        return op.ReduceSum(below, last, keepdims=0)

    def stable_sort(values: Any, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:
        # ONNX's TopK lets the lower index win a tie, which is what a stable sort does.
        size: Any = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))  # type: ignore[type-var]
        return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)

    program = torch.onnx.export(
        module,
        given,
        dynamo=True,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=tuple(dict(axes) for axes in dynamic),
        opset_version=opset,
        custom_translation_table={
            torch.ops.aten.sort.stable: stable_sort,
            torch.ops.aten.searchsorted.Tensor: searchsorted,
        },
        verbose=False,
    )
    assert program is not None
    return program


def check_opset(opset: int) -> None:
    """Raise ImportError where ONNX is not installed, ValueError where it does not know the operator set."""
    try:
        from onnx.defs import onnx_opset_version
    except ImportError as error:
        raise ImportError("ONNX is an extra: pip install 'lsep-ml[onnx]'") from error
    newest = onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise ValueError(f"opset={opset}: supported are {OPSET} to {newest}")
