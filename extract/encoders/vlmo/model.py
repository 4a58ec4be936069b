"""The VLMo model; modules and weights are named as in the published checkpoints.

Bao et al. 2022: one transformer as the encoder of pictures, of texts, and of both
together, where the text comes first. Below the first layer with an expert for both, a joint
sequence is divided between the experts of text and picture at a fixed place.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from extract.encoders.vlmo.blocks import EPS, EXPERTS, Block, DropPath
from extract.encoders.vlmo.heads import (
    HEADS,
    MlmHead,
    PatchEmbed,
    Pooler,
    Projection,
    TextEmbeddings,
)
from extract.encoders.vlmo.positions import relative_index
from extract.encoders.vlmo.sizes import Sizes

DROP_PATH = 0.1
LOG_SCALE = math.log(1 / 0.07)
OWN_EXPERT = {"image": "imag", "text": "text"}


class MultiwayTransformer(nn.Module):
    """The layers, and the embedding of pictures.

    Args:
        sizes: The model's.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        dim = sizes.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        places = 1 + sizes.window**2
        positions = torch.zeros(1, places, dim)
        self.pos_embed = nn.Parameter(positions) if sizes.use_abs_pos_emb else None
        self.patch_embed = PatchEmbed(sizes.patch_size, dim)
        start = sizes.vlffn_start_layer_index
        self.blocks = nn.ModuleList(
            Block(
                dim,
                sizes.num_heads,
                sizes.mlp_hidden_dim,
                EXPERTS if layer >= start else EXPERTS[:2],
                sizes.layer_scale,
            )
            for layer in range(sizes.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels, (n, 3, side, side), to what enters the first layer, but for the modality."""
        patches = self.patch_embed(images)
        hidden = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return hidden if self.pos_embed is None else hidden + self.pos_embed


class VLMo(nn.Module):
    """Pictures, texts and both together to hidden states, vectors and logits.

    A sequence is of one of three kinds: ``image``, ``text`` or ``joint``. A text may have any
    length up to ``sizes.max_text_len``; in a joint sequence it has exactly that.

    Args:
        sizes: Its sizes.
        heads: Those of `HEADS` that it has.

    Attributes:
        sizes: Its sizes.
        heads: Those of `HEADS` that it has.
    """

    joint_index: Tensor

    def __init__(self, sizes: Sizes, heads: Iterable[str] = HEADS) -> None:
        super().__init__()
        dim = sizes.embed_dim
        self.sizes = sizes
        self.heads = frozenset(heads)
        self.relative_position_bias_table = _bias_table(sizes)
        if sizes.use_relative_position_bias:
            reach = sizes.max_text_len_of_initckpt
            index = relative_index(sizes.window, sizes.max_text_len, reach)
            self.register_buffer("joint_index", index, persistent=False)
        self.transformer = MultiwayTransformer(sizes)
        self.text_embeddings = TextEmbeddings(
            sizes.vocab_size, sizes.max_text_len, dim, sizes.text_positions
        )
        self.token_type_embeddings = nn.Embedding(2, dim)  # of text and picture
        self.pooler = Pooler(dim)
        self.itc_text_proj = Projection(dim, dim, bias=False)
        self.itc_image_proj = Projection(dim, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(LOG_SCALE))
        if "itc_vl" in self.heads:
            self.itc_vl_text_proj = Projection(dim, dim, bias=False)
            self.itc_vl_image_proj = Projection(dim, dim, bias=False)
            self.logit_vl_scale = nn.Parameter(torch.tensor(LOG_SCALE))
        if "itm" in self.heads:
            self.itm_score = Projection(dim, 2, bias=True)
        if "mlm" in self.heads:
            self.mlm_score = MlmHead(dim, sizes.vocab_size)
        self.set_drop_path(DROP_PATH)

    def set_drop_path(self, rate: float) -> None:
        """How much is left out in training: of branches up to `rate`, more the later the layer.

        Text embeddings have dropout of the same rate.
        """
        paths = [module for module in self.modules() if isinstance(module, DropPath)]
        for layer, path in enumerate(paths):
            path.rate = rate * layer / max(len(paths) - 1, 1)
        self.text_embeddings.dropout.p = rate

    def embed_image(self, images: Tensor) -> Tensor:
        """Pixels, (n, 3, side, side), to the first layer's input, (n, 1 + patches, dim)."""
        return self.transformer(images) + self.token_type_embeddings.weight[1]

    def embed_text(self, ids: Tensor) -> Tensor:
        """Ids, (n, length), to the first layer's input, (n, length, dim)."""
        return self.text_embeddings(ids) + self.token_type_embeddings.weight[0]

    def block(
        self, layer: int, hidden: Tensor, kind: str, mask: Tensor | None = None, vl: bool = False
    ) -> Tensor:
        """One layer.

        Args:
            layer: Which one.
            hidden: (n, length, dim).
            kind: ``image``, ``text`` or ``joint``.
            mask: Which places are filled, (n, length) bool; None: all.
            vl: Whether a picture or a text alone goes through the expert for both, too.
        """
        bias = self._attention_bias(layer, hidden, kind, mask)
        experts = self.experts(layer, kind, vl)
        return self.transformer.blocks[layer](hidden, bias, experts, self.sizes.max_text_len)

    def experts(self, layer: int, kind: str, vl: bool = False) -> tuple[str, ...]:
        """The expert of all places, or those of a joint sequence's text and picture."""
        if kind == "joint" and layer < self.sizes.vlffn_start_layer_index:
            return ("text", "imag")
        return ("vl",) if vl or kind == "joint" else (OWN_EXPERT[kind],)

    def run(
        self,
        hidden: Tensor,
        kind: str,
        mask: Tensor | None = None,
        layers: Iterable[int] | None = None,
        vl: bool = False,
    ) -> Tensor:
        """Several layers, all unless told; see `block`. The final norm is not among them."""
        for layer in range(self.sizes.depth) if layers is None else layers:
            hidden = self.block(layer, hidden, kind, mask, vl)
        return hidden

    def project(self, kind: str, hidden: Tensor, vl: bool = False) -> Tensor:
        """The last layer's output, (n, length, dim), to the retrieval vector, (n, dim), length 1.

        Args:
            kind: ``image`` or ``text``.
            hidden: Before the final norm.
            vl: Whether by the second pair of heads, for what went through the experts for both.
        """
        head = self.get_submodule(f"itc_vl_{kind}_proj" if vl else f"itc_{kind}_proj")
        return normalize(head(self.transformer.norm(hidden[:, 0])), dim=-1)

    def views(self, kind: str, hidden: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Both retrieval vectors of pictures or texts, or the first where there is no second.

        The second shares the first layers, but goes through the experts for both modalities in
        the last ones; published models are contrasted by both.

        Args:
            kind: ``image`` or ``text``.
            hidden: The first layer's input, (n, length, dim).
            mask: As in `block`.
        """
        start, depth = self.sizes.vlffn_start_layer_index, self.sizes.depth
        shared = self.run(hidden, kind, mask, range(start))
        own = self.project(kind, self.run(shared, kind, mask, range(start, depth)))
        if "itc_vl" not in self.heads:
            return (own,)
        joint = self.run(shared, kind, mask, range(start, depth), vl=True)
        return own, self.project(kind, joint, vl=True)

    def joint(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Pictures and texts of the same n items to hidden states after the final norm.

        Args:
            images: (n, 3, side, side).
            ids: (n, max_text_len), padded.
            mask: (n, max_text_len) bool.

        Returns:
            (n, max_text_len + 1 + patches, dim), the text first.
        """
        if ids.shape[1] != self.sizes.max_text_len:
            raise ValueError(
                f"texts of {ids.shape[1]} places; a joint sequence has {self.sizes.max_text_len}"
            )
        patches = self.embed_image(images)
        hidden = torch.cat([self.embed_text(ids), patches], dim=1)
        filled = torch.cat([mask, mask.new_ones(patches.shape[:2])], dim=1)
        return self.transformer.norm(self.run(hidden, "joint", filled))

    def _attention_bias(
        self, layer: int, hidden: Tensor, kind: str, mask: Tensor | None
    ) -> Tensor | None:
        bias = None
        if self.relative_position_bias_table is not None:
            text = self.sizes.max_text_len
            places = {"image": slice(text, None), "text": slice(hidden.shape[1])}
            own = places.get(kind, slice(None))
            heads = self.sizes.num_heads
            columns = self.relative_position_bias_table[:, layer * heads : (layer + 1) * heads]
            bias = embedding(self.joint_index[own, own], columns).permute(2, 0, 1)
            bias = bias.unsqueeze(0).contiguous()  # fused attention needs rows of keys
        if mask is None:
            return bias
        absent = torch.zeros(mask.shape, dtype=hidden.dtype, device=hidden.device)
        absent = absent.masked_fill(~mask, -math.inf)[:, None, None]
        return absent if bias is None else bias + absent


def _bias_table(sizes: Sizes) -> nn.Parameter | None:
    if not sizes.use_relative_position_bias:
        return None
    return nn.Parameter(torch.zeros(sizes.bias_rows, sizes.num_heads * sizes.depth))
