"""Shared building blocks and their gradients, against torch's own."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.nn import functional as F

from recommend.layers import edge_dots, unit_rows
from recommend.sparse import SparsePattern


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edge_dots_and_their_gradient(device, dtype):
    generator = np.random.default_rng(1)
    pattern = SparsePattern(csr_array(generator.random((9, 5)) < 0.4)).to(device)
    left = torch.randn(9, 3, dtype=dtype, device=device, requires_grad=True)
    right = torch.randn(5, 3, dtype=dtype, device=device, requires_grad=True)
    got = edge_dots(pattern, left, right)
    wanted = (left @ right.T)[pattern.row_of, pattern.column_of]
    torch.testing.assert_close(got, wanted)
    weight = torch.randn_like(wanted)
    gradients = (torch.autograd.grad((x * weight).sum(), (left, right)) for x in (got, wanted))
    torch.testing.assert_close(*gradients)


def test_unit_rows_and_their_gradient(device):
    vectors = torch.randn(6, 4, dtype=torch.float64, device=device, requires_grad=True)
    got, wanted = unit_rows(vectors), F.normalize(vectors, dim=1)
    torch.testing.assert_close(got, wanted)
    weight = torch.randn_like(wanted)
    gradients = (torch.autograd.grad((x * weight).sum(), vectors) for x in (got, wanted))
    torch.testing.assert_close(*gradients)


def test_a_row_of_zeros_stays_so_and_has_no_gradient():
    vectors = torch.zeros(2, 3, requires_grad=True)
    unit_rows(vectors + torch.tensor([[0.0], [2.0]])).sum().backward()
    assert unit_rows(vectors).tolist() == [[0.0] * 3] * 2
    assert vectors.grad[0].tolist() == [0.0] * 3
