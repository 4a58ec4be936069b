"""Sparse products and their gradients, against torch's dense ones."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recommend import native
from recommend.convolutions import light_graph_convolution
from recommend.sparse import SparseMatrix, SparsePattern


@pytest.fixture(params=["native", "torch"], autouse=True)
def way(request, monkeypatch):
    """Everything here holds with the compiled loop and without it."""
    if request.param == "torch":
        monkeypatch.setattr(native, "kernels", lambda: None)
    elif native.kernels() is None:
        pytest.skip("there is no C compiler with OpenMP here")


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


def test_product_and_gradients_with_values_as_an_argument(dense, device):
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


@pytest.mark.parametrize("width", [3, 64, 150])
def test_rows_start_scale_and_what_is_known_to_be_zero(dense, width):
    matrix = SparseMatrix(csr_array(dense)).rows
    x, start = torch.randn(5, width), torch.randn(9, width)
    x[[1, 3]] = 0
    active = torch.tensor([True, False, True, False, True])
    whole = 0.25 * (start + torch.from_numpy(dense).float() @ x)
    for rows in (None, torch.tensor([7, 0, 7, 2])):
        got = matrix(x, start=start, scale=0.25, rows=rows, active=active)
        torch.testing.assert_close(got, whole if rows is None else whole[rows])


def whole_convolution(dense, e, layers):
    """By powers of the whole (U+I)² matrix."""
    a = torch.from_numpy(dense).float()
    whole = torch.zeros(14, 14)
    whole[:9, 9:], whole[9:, :9] = a, a.T
    return sum(torch.linalg.matrix_power(whole, layer) @ e for layer in range(layers + 1)) / (
        layers + 1
    )


@pytest.mark.parametrize("rows", [None, ([3, 8, 3, 0], [4, 1])])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_light_graph_convolution_and_its_gradient(dense, device, layers, rows):
    e = torch.randn(14, 4, requires_grad=True)
    wanted = whole_convolution(dense, e, layers)
    graph = SparseMatrix(csr_array(dense)).to(device)
    chosen = None if rows is None else tuple(torch.tensor(each, device=device) for each in rows)
    tables = e[:9].to(device), e[9:].to(device)
    got = torch.cat(light_graph_convolution(graph, *tables, layers, chosen)).cpu()
    if rows is not None:
        wanted = torch.cat([wanted[:9][rows[0]], wanted[9:][rows[1]]])
    torch.testing.assert_close(got, wanted)
    weight = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((x * weight).sum(), e)[0] for x in (got, wanted)]
    torch.testing.assert_close(*gradients)
