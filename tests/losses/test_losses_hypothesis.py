"""Any small batch: its shape, ties, dtypes, targets and mask chosen by Hypothesis."""

from typing import NamedTuple

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from loss_cases import CASES, Case
from torch import Tensor

from lsep_ml import losses


class Example(NamedTuple):
    scores: Tensor
    targets: Tensor
    mask: Tensor | None


@st.composite
def batches(draw: st.DrawFn) -> Example:
    rows, labels = draw(st.integers(1, 4)), draw(st.integers(1, 8))

    def matrix(elements: st.SearchStrategy[float | bool]) -> list[list[float | bool]]:
        row = st.lists(elements, min_size=labels, max_size=labels)
        return draw(st.lists(row, min_size=rows, max_size=rows))

    tied = st.integers(-8, 8).map(
        lambda n: n / 4
    )  # exact in half precision, and often equal or a margin apart
    scores = matrix(draw(st.sampled_from([tied, st.floats(-8, 8, width=16)])))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.float16]))
    target_dtype = draw(st.sampled_from([torch.bool, torch.uint8, torch.int64, torch.float32]))
    mask = torch.tensor(matrix(st.booleans())) if draw(st.booleans()) else None
    return Example(
        torch.tensor(scores, dtype=dtype), torch.tensor(matrix(st.booleans())).to(target_dtype), mask
    )


@given(st.sampled_from(CASES), batches())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_dense_sparse_fused_and_plain_are_the_equation(case: Case, batch: Example) -> None:
    scores, targets, mask = batch
    if case.name == "bpmll":  # held beyond its limit, which has tests of its own
        assume(losses.bpmll_clamped_rows(scores, targets, mask, **case.options) == 0)
    exact = scores.dtype == torch.float64
    expected = case.expected(scores, targets, mask)
    for enabled in (True, False):
        for given_targets in (targets, losses.LabelIndices.of(targets)):
            with losses.fused(enabled):
                values, gradient = case.computed(scores, given_targets, mask=mask)
            assert torch.isfinite(gradient).all()
            torch.testing.assert_close(
                values.double(), expected[0], rtol=1e-9 if exact else 1e-5, atol=1e-9 if exact else 1e-6
            )
            if scores.dtype == torch.float32 or exact:
                tolerance = 1e-9 if exact else 1e-5
                torch.testing.assert_close(gradient.double(), expected[1], rtol=tolerance, atol=tolerance)
