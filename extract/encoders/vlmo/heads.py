"""What stands before and after VLMo's layers: embeddings of patches and words, and the heads.

Their names and shapes are those of the published checkpoints.
"""

import torch
from torch import Tensor, nn

TEXT_EPS = 1e-12
# The heads that a checkpoint may lack, and with what the names of their weights begin.
HEADS = {
    "itc_vl": ("itc_vl_text_proj.", "itc_vl_image_proj.", "logit_vl_scale"),
    "itm": ("itm_score.",),
    "mlm": ("mlm_score.",),
}


class PatchEmbed(nn.Module):
    """Pixels to patches.

    Args:
        patch_size: A patch's side in pixels.
        dim: The size of its vector.
    """

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, side, side) to (n, patches, dim), row by row."""
        return self.proj(images).flatten(2).transpose(1, 2)


class TextEmbeddings(nn.Module):
    """Ids to embeddings, as in BERT, but positions are added only where `positions` says so.

    The checkpoints hold the position embeddings even where they are not used.

    Args:
        vocab_size: Word pieces.
        length: Positions.
        dim: The size of a vector.
        positions: Whether their embeddings are added.
    """

    def __init__(self, vocab_size: int, length: int, dim: int, positions: bool) -> None:
        super().__init__()
        self.positions = positions
        self.word_embeddings = nn.Embedding(vocab_size, dim)
        self.position_embeddings = nn.Embedding(length, dim)
        self.token_type_embeddings = nn.Embedding(2, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=TEXT_EPS)
        self.dropout = nn.Dropout(0.0)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, length) to (n, length, dim)."""
        embedded = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        if self.positions:
            embedded = embedded + self.position_embeddings.weight[: ids.shape[1]]
        return self.dropout(self.LayerNorm(embedded))


class Projection(nn.Module):
    """A linear head, ``fc``: of contrastive training without a bias, of matching with one.

    Args:
        dim: The size of a hidden state.
        out: The size of what it gives.
        bias: Whether it has a bias.
    """

    def __init__(self, dim: int, out: int, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, out, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., dim) to (..., out)."""
        return self.fc(hidden)


class Pooler(nn.Module):
    """``tanh(W x + b)`` of a joint sequence's first place.

    Args:
        dim: The size of a hidden state.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(n, length, dim) to (n, dim)."""
        return torch.tanh(self.dense(hidden[:, 0]))


class MlmTransform(nn.Module):
    """A linear layer, GELU and a norm before the words are told.

    Args:
        dim: The size of a hidden state.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.act = nn.GELU()
        self.LayerNorm = nn.LayerNorm(dim, eps=TEXT_EPS)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., dim) to (..., dim)."""
        return self.LayerNorm(self.act(self.dense(hidden)))


class MlmHead(nn.Module):
    """Which word a place holds; its weights are not those of the word embeddings.

    Args:
        dim: The size of a hidden state.
        vocab_size: Word pieces.
    """

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.transform = MlmTransform(dim)
        self.decoder = nn.Linear(dim, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., dim) to logits, (..., vocab_size)."""
        return self.decoder(self.transform(hidden)) + self.bias
