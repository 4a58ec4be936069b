"""Which bias belongs to which two places, and both kinds of positions at another resolution."""

import math

import numpy as np
import pytest
import torch
from support.tiny_vlmo import tiny_sizes
from support.vlmo_by_hand import bias_row

from extract.encoders.vlmo.positions import relative_index, resize_bias_table, resize_positions
from extract.encoders.vlmo.sizes import KNOWN


@pytest.mark.parametrize(("window", "text", "reach"), [(3, 5, 7), (1, 2, 6), (4, 6, 6)])
def test_index_equals_a_loop_over_pairs(window, text, reach):
    sizes = tiny_sizes(image_size=16 * window, max_text_len_of_initckpt=reach)
    places = [("text", n) for n in range(text)] + [("image", n) for n in range(1 + window**2)]
    expected = [[bias_row(sizes, query, key) for key in places] for query in places]
    found = relative_index(window, text, reach)
    assert found.tolist() == expected
    assert found.max() == sizes.bias_rows - 1


def test_index_of_the_published_base():
    found = relative_index(14, 40, 196)
    # Of the published shapes: 729 offsets of patches, 5 entries, 389 of words, 3 entries.
    assert found[40, 41] == 729
    assert found[41, 40] == 730
    assert found[40, 40] == 731
    assert found[0, 40] == found[39, 236] == 732
    assert found[40, 0] == found[236, 39] == 733
    assert found[1, 1] == 734 + 194
    assert found[1, 2] == 734 + 195
    assert (found[0, 1], found[1, 0], found[0, 0]) == (1123, 1124, 1125)
    assert found[41, 42] == 13 * 27 + 12  # to the patch on the right
    assert KNOWN["base"].bias_rows == 1126


def test_a_polynomial_is_interpolated_exactly():
    # From 4 to 5 patches the outermost of the offsets 1, 1 + q, 1 + q + q^2 shall lie at 4.
    q = (math.sqrt(13) - 1) / 2
    half = np.array([1, 1 + q, 4])
    grid = np.concatenate([-half[::-1], [0], half])

    def polynomial(y, x):
        return 0.3 * y**3 - y * x**2 + 2 * x + 1

    values = polynomial(grid[:, None], grid[None])
    rest = torch.arange(6.0).reshape(3, 2)
    table = torch.cat([torch.tensor(np.stack([values, -2 * values], -1)).reshape(49, 2), rest])
    resized = resize_bias_table(table, 4, 5)
    wanted = np.arange(-4, 5)
    expected = polynomial(wanted[:, None], wanted[None])
    assert resized.shape == (81 + 3, 2)
    # The grid is found to a millionth.
    np.testing.assert_allclose(resized[:81, 0].reshape(9, 9), expected, atol=2e-4)
    np.testing.assert_allclose(resized[:81, 1].reshape(9, 9), -2 * expected, atol=4e-4)
    torch.testing.assert_close(resized[81:], rest.double())


def test_far_offsets_keep_the_bias_of_the_outermost():
    # A ratio of at most 1.5 reaches from 4 patches to an offset of 4.75, not to 5.
    table = torch.randn(49, 1, generator=torch.Generator().manual_seed(1))
    resized = resize_bias_table(table, 4, 6).reshape(11, 11)
    corners = table.reshape(7, 7)[::6, ::6]
    torch.testing.assert_close(resized[::10, ::10], corners, atol=1e-4, rtol=0)


def test_near_offsets_stay_nearly_in_a_smaller_picture():
    table = torch.randn(13**2, 1, generator=torch.Generator().manual_seed(2))
    resized = resize_bias_table(table, 7, 3).reshape(5, 5)
    near = table.reshape(13, 13)[4:9, 4:9]
    torch.testing.assert_close(resized, near, atol=0.1, rtol=0)
    torch.testing.assert_close(resized[1:4, 1:4], near[1:4, 1:4], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 5)])
def test_few_patches_are_no_obstacle(old, new):
    table = torch.full(((2 * old - 1) ** 2 + 4, 2), 0.25)
    assert torch.allclose(resize_bias_table(table, old, new), torch.tensor(0.25))


def test_the_same_size_changes_nothing():
    sizes = tiny_sizes()
    table = torch.randn(sizes.bias_rows, 16)
    assert torch.equal(resize_bias_table(table, 2, 2), table)
    positions = torch.randn(1, 5, 3)
    assert torch.equal(resize_positions(positions, 2, 2), positions)


def cubic(distance, a=-0.75):
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def test_positions_equal_a_bicubic_loop():
    old, new = 3, 5
    positions = torch.randn(1, 1 + old**2, 2, generator=torch.Generator().manual_seed(3)).double()
    grid = positions[0, 1:].reshape(old, old, 2).numpy()
    weights = np.zeros((new, old))
    for target in range(new):
        centre = (target + 0.5) * old / new - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            weights[target, min(max(tap, 0), old - 1)] += cubic(centre - tap)
    expected = np.einsum("ry,cx,yxd->rcd", weights, weights, grid).reshape(new**2, 2)
    found = resize_positions(positions, old, new)
    np.testing.assert_allclose(found[0, 1:], expected, atol=1e-12)
    assert torch.equal(found[0, 0], positions[0, 0])
