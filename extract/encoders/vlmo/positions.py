"""Relative and absolute positions of VLMo, and both at another resolution.

The bias table has a row for each pair of places that it tells apart, in this order: the offsets of
two patches, the picture's [CLS] to a patch, a patch to [CLS], [CLS] to itself, text to picture,
picture to text, the offsets of two words, and the text's three of [CLS].
"""

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from torch import Tensor
from torch.nn.functional import interpolate

# Between which the ratio of the geometric grid is sought by halving, and until when: where the
# outermost offset lies on the border, a closer ratio would move biases in the fifth digit.
RATIOS = (1.01, 1.5)
TOLERANCE = 1e-6


def relative_index(window: int, text_length: int, reach: int) -> Tensor:
    """The row of the bias table for each pair of places in a joint sequence, text first.

    Args:
        window: Patches along a picture's side.
        text_length: Places of the text, [CLS] among them.
        reach: The longest text that the table allows for.

    Returns:
        (text_length + 1 + window**2, the same), queries by keys, on the CPU whatever the default
        device. The two blocks on the diagonal are those of a text and of a picture alone.
    """
    image = _image_index(window)
    between = int(image[0, 0]) + 1
    text = _text_index(text_length, reach) + between + 2
    to_image = torch.full((text_length, len(image)), between, device="cpu")
    return torch.cat(
        [torch.cat([text, to_image], dim=1), torch.cat([to_image.T + 1, image], dim=1)]
    )


def _image_index(window: int) -> Tensor:
    places = torch.arange(window, device="cpu")
    rows, columns = (grid.flatten() for grid in torch.meshgrid(places, places, indexing="ij"))
    offsets = 2 * window - 1
    down = rows[:, None] - rows + window - 1
    across = columns[:, None] - columns + window - 1
    return _with_cls(down * offsets + across, offsets**2)


def _text_index(length: int, reach: int) -> Tensor:
    places = torch.arange(length - 1, device="cpu")
    # Keys minus queries, unlike patches.
    return _with_cls(places - places[:, None] + reach - 2, 2 * reach - 3)


def _with_cls(index: Tensor, first: int) -> Tensor:
    """Add [CLS] before all places: its row, its column and its own place take three entries."""
    index = torch.nn.functional.pad(index, (1, 0, 1, 0))
    index[0, :] = first
    index[:, 0] = first + 1
    index[0, 0] = first + 2
    return index


def resize_bias_table(table: Tensor, old: int, new: int) -> Tensor:
    """The bias table for pictures of another size.

    The biases of patch offsets are interpolated by a cubic spline over a grid whose steps grow
    geometrically from the middle, so that near offsets, of which there is much to learn, keep
    their biases, and far ones are stretched. All other rows stay.

    Args:
        table: (rows, columns) for a window of `old` patches.
        old: Patches along the side so far.
        new: Patches along the side to be.

    Returns:
        (rows, columns) for a window of `new` patches.
    """
    if old == new:
        return table
    source, target = 2 * old - 1, 2 * new - 1
    grids = table[: source**2].T.reshape(-1, source, source).double().numpy()
    resized = np.stack([_spline(grid, _geometric_grid(old, new), new) for grid in grids])
    offsets = torch.from_numpy(resized).to(table.dtype).reshape(-1, target**2).T
    return torch.cat([offsets, table[source**2 :]])


def _geometric_grid(old: int, new: int) -> np.ndarray:
    """Where the `old` offsets of one direction lie among the `new` ones, both sides of zero."""
    steps = np.arange(old - 1)
    low, high = RATIOS
    ratio = low
    while high - low > TOLERANCE:
        ratio = (low + high) / 2
        if (ratio**steps).sum() > new - 1:
            high = ratio
        else:
            low = ratio
    half = np.cumsum(ratio**steps)
    return np.concatenate([-half[::-1], [0.0], half])


def _spline(values: np.ndarray, grid: np.ndarray, new: int) -> np.ndarray:
    wanted = np.clip(np.arange(1 - new, new), grid[0], grid[-1])
    degree = min(3, len(grid) - 1)
    if degree == 0:  # a single patch, whose only offset is to itself
        return np.full((len(wanted), len(wanted)), values.item())
    return RectBivariateSpline(grid, grid, values, kx=degree, ky=degree, s=0)(wanted, wanted)


def resize_positions(positions: Tensor, old: int, new: int) -> Tensor:
    """Position embeddings for pictures of another size: bicubic, that of [CLS] as it is.

    Args:
        positions: (1, 1 + old**2, dim).
        old: Patches along the side so far.
        new: Patches along the side to be.

    Returns:
        (1, 1 + new**2, dim).
    """
    if old == new:
        return positions
    grid = positions[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)
    resized = interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
