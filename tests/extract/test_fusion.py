import pytest
import torch

from extract.errors import UserError
from extract.fusion import FUSIONS, default_fusion, fuse, fused_dim

# Lengths 5 and 13, so the unit vectors are (.6, .8) and (5/13, 12/13); the last pair is a zero.
IMAGE = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
TEXT = torch.tensor([[5.0, 12.0], [0.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", [[(3 / 5 + 5 / 13) / 2, (4 / 5 + 12 / 13) / 2], [0, 0.5]]),
        ("sum", [[64 / 65, 112 / 65], [0, 1]]),
        ("product", [[15 / 65, 48 / 65], [0, 0]]),
        ("concat", [[3 / 5, 4 / 5, 5 / 13, 12 / 13], [0, 0, 0, 1]]),
    ],
)
def test_by_hand(name, expected):
    fused = fuse(name, IMAGE, TEXT)
    torch.testing.assert_close(fused, torch.tensor(expected, dtype=torch.float64))
    assert fused.shape[1] == fused_dim(name, {"image": 2, "text": 2})


def test_the_table_is_whole():
    assert list(FUSIONS) == ["mean", "sum", "product", "concat"]


def test_the_scale_of_a_modality_does_not_matter():
    torch.testing.assert_close(fuse("mean", IMAGE * 1000, TEXT), fuse("mean", IMAGE, TEXT / 7))


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_pass_and_are_right(name):
    image = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    text = torch.tensor([[1.5, 0.2, -0.7]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i, t: fuse(name, i, t), (image, text))


def test_sizes():
    assert default_fusion({"image": 4, "text": 4}) == "mean"
    assert default_fusion({"image": 4, "text": 5}) == "concat"
    assert fused_dim("concat", {"image": 4, "text": 5}) == 9
    for name in ("mean", "sum", "product"):
        with pytest.raises(UserError, match=r"found 4 and 5; use --fusion concat"):
            fused_dim(name, {"image": 4, "text": 5})
    with pytest.raises(UserError, match="unknown fusion 'meen'; did you mean 'mean'"):
        fused_dim("meen", {"image": 4, "text": 4})
