"""Sparse products and their gradients, against torch's dense ones."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recommend import sparse
from recommend.layers import light_graph_convolution
from recommend.sparse import SparseMatrix, SparsePattern


@pytest.fixture
def dense():
    generator = np.random.default_rng(6)
    return (generator.random((9, 5)) < 0.4) * generator.standard_normal((9, 5))


def test_product_and_gradient(dense, device):
    matrix = SparseMatrix(csr_array(dense)).to(device)
    a = torch.from_numpy(dense).float().to(device)
    for product, reference, rows in (
        (matrix.__matmul__, a, 5),
        (matrix.transposed_matmul, a.T, 9),
    ):
        x = torch.randn(rows, 3, device=device, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        weight = torch.randn(len(reference), 3, device=device)
        (product(x) * weight).sum().backward()
        ((reference @ y) * weight).sum().backward()
        torch.testing.assert_close(product(x), reference @ y)
        torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("block", [2**18, 7])
def test_product_and_gradients_with_values_as_an_argument(dense, device, monkeypatch, block):
    monkeypatch.setattr(sparse, "BLOCK_ENTRIES", block)
    pattern = SparsePattern(csr_array(dense)).to(device)
    rows, columns = np.nonzero(dense)
    assert pattern.row_of.tolist() == rows.tolist()
    assert pattern.column_of.tolist() == columns.tolist()
    for transposed, n in ((False, 5), (True, 9)):
        values = torch.randn(len(rows), dtype=torch.float64, device=device, requires_grad=True)
        x = torch.randn(n, 3, dtype=torch.float64, device=device, requires_grad=True)
        product = pattern.transposed_matmul if transposed else pattern.matmul
        a = torch.zeros(9, 5, dtype=torch.float64, device=device)
        a = a.index_put((pattern.row_of, pattern.column_of), values)
        reference = (a.T if transposed else a) @ x
        got = product(values, x)
        torch.testing.assert_close(got, reference)
        weight = torch.randn_like(reference)
        wanted = torch.autograd.grad((reference * weight).sum(), (values, x))
        torch.testing.assert_close(torch.autograd.grad((got * weight).sum(), (values, x)), wanted)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_light_graph_convolution_and_its_gradient(dense, layers):
    """Against powers of the whole (U+I)² matrix."""
    a = torch.from_numpy(dense).float()
    whole = torch.zeros(14, 14)
    whole[:9, 9:], whole[9:, :9] = a, a.T
    e = torch.randn(14, 4, requires_grad=True)
    wanted = sum(torch.linalg.matrix_power(whole, layer) @ e for layer in range(layers + 1))
    wanted = wanted / (layers + 1)
    graph = SparseMatrix(csr_array(dense))
    got = torch.cat(light_graph_convolution(graph, e[:9], e[9:], layers))
    torch.testing.assert_close(got, wanted)
    weight = torch.randn(14, 4)
    gradients = [torch.autograd.grad((x * weight).sum(), e)[0] for x in (got, wanted)]
    torch.testing.assert_close(*gradients)
