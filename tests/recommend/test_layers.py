"""Shared building blocks and their gradients, against torch's own."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.nn import functional as F

from recommend.convolutions import light_graph_convolution, light_graph_convolution_from_items
from recommend.layers import Projection, edge_dots, row_differences, unit_rows
from recommend.sparse import SparseMatrix, SparsePattern


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


def test_row_differences_and_their_gradient(device):
    table = torch.randn(6, 5, device=device, requires_grad=True)
    plus, minus = (torch.tensor(rows, device=device) for rows in ([0, 3, 3, 5], [1, 3, 0, 2]))
    got, wanted = row_differences(table, plus, minus), table[plus] - table[minus]
    torch.testing.assert_close(got, wanted)
    weight = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((x * weight).sum(), table)[0] for x in (got, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("some", [True, False], ids=["some rows", "all rows"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_light_graph_convolution_from_items_is_that_with_users_of_zero(device, dtype, layers, some):
    graph = SparseMatrix(csr_array(np.random.default_rng(1).random((9, 5)))).to(device)
    items = torch.randn(5, 3, dtype=dtype, device=device, requires_grad=True)
    chosen = (torch.tensor(rows, device=device) for rows in ([8, 0, 3], [4, 1]))
    rows = tuple(chosen) if some else None
    got = light_graph_convolution_from_items(graph, items, layers, rows)
    wanted = light_graph_convolution(graph, items.new_zeros((9, 3)), items, layers, rows)
    torch.testing.assert_close(got, wanted)
    weights = [torch.randn_like(side) for side in wanted]
    gradients = [torch.autograd.grad(both, items, weights) for both in (got, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [0, 5, 2500])
def test_a_projection_and_its_gradients_are_those_of_a_linear_map(rows, bias, device):
    projection = Projection(7, 3, bias=bias).to(device).double()
    vectors = torch.randn(rows, 7, device=device, dtype=torch.float64, requires_grad=True)
    got, wanted = projection(vectors), F.linear(vectors, projection.weight, projection.bias)
    torch.testing.assert_close(got, wanted)
    weight, inputs = torch.randn_like(wanted), (vectors, *projection.parameters())
    gradients = [torch.autograd.grad((x * weight).sum(), inputs) for x in (got, wanted)]
    torch.testing.assert_close(*gradients)
