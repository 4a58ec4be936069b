"""VLMo's forward written once more, one place and one head at a time, in NumPy and float64."""

import numpy as np
from scipy.special import erf, softmax


class ByHand:
    """A model of one picture and one text.

    Args:
        weights: A state dict.
        sizes: The model's.
    """

    def __init__(self, weights, sizes):
        self.w = {name: weight.double().numpy() for name, weight in weights.items()}
        self.sizes = sizes

    def image(self, pixels):
        """(3, side, side) to the first layer's input."""
        side = self.sizes.patch_size
        kernel = self.w["transformer.patch_embed.proj.weight"]
        bias = self.w["transformer.patch_embed.proj.bias"]
        hidden = [self.w["transformer.cls_token"][0, 0]]
        for row in range(self.sizes.window):
            for column in range(self.sizes.window):
                patch = pixels[:, row * side :, column * side :][:, :side, :side]
                hidden.append((kernel * patch).sum((1, 2, 3)) + bias)
        hidden = np.array(hidden)
        if self.sizes.use_abs_pos_emb:
            hidden += self.w["transformer.pos_embed"][0]
        return hidden + self.w["token_type_embeddings.weight"][1]

    def text(self, ids):
        """Ids to the first layer's input."""
        part = "text_embeddings."
        hidden = self.w[f"{part}word_embeddings.weight"][list(ids)]
        hidden = hidden + self.w[f"{part}token_type_embeddings.weight"][0]
        if self.sizes.text_positions:
            hidden = hidden + self.w[f"{part}position_embeddings.weight"][: len(ids)]
        hidden = self.norm(hidden, f"{part}LayerNorm", 1e-12)
        return hidden + self.w["token_type_embeddings.weight"][0]

    def norm(self, hidden, name, eps=1e-6):
        centred = hidden - hidden.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(centred.var(-1, keepdims=True) + eps)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def layers(self, hidden, places, filled, expert):
        """All layers.

        Args:
            hidden: (length, dim).
            places: For each its kind and its number there, such as ("image", 3).
            filled: For each whether it is no padding.
            expert: From layer and kind to the expert's name.
        """
        for layer in range(self.sizes.depth):
            part = f"transformer.blocks.{layer}."
            normed = self.norm(hidden, f"{part}norm1")
            scale = self.w.get(f"{part}gamma_1", 1.0)
            hidden = hidden + scale * self.attention(layer, normed, places, filled)
            fed = []
            for vector, (kind, _) in zip(hidden, places, strict=True):
                name = expert(layer, kind)
                mlp = f"{part}mlp_{name}."
                inner = self.norm(vector, f"{part}norm2_{name}") @ self.w[f"{mlp}fc1.weight"].T
                inner = inner + self.w[f"{mlp}fc1.bias"]
                inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
                fed.append(inner @ self.w[f"{mlp}fc2.weight"].T + self.w[f"{mlp}fc2.bias"])
            hidden = hidden + self.w.get(f"{part}gamma_2", 1.0) * np.array(fed)
        return self.norm(hidden, "transformer.norm")

    def attention(self, layer, hidden, places, filled):
        part, heads = f"transformer.blocks.{layer}.attn.", self.sizes.num_heads
        query, key, value = np.split(hidden @ self.w[f"{part}qkv.weight"].T, 3, axis=1)
        query, value = query + self.w[f"{part}q_bias"], value + self.w[f"{part}v_bias"]
        size = hidden.shape[1] // heads
        gathered = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            logits = query[:, own] @ key[:, own].T / np.sqrt(size)
            if self.sizes.use_relative_position_bias:
                column = layer * heads + head
                table = self.w["relative_position_bias_table"][:, column]
                logits += [[table[bias_row(self.sizes, q, k)] for k in places] for q in places]
            logits[:, ~np.array(filled)] = -np.inf
            gathered.append(softmax(logits, axis=1) @ value[:, own])
        joined = np.concatenate(gathered, axis=1)
        return joined @ self.w[f"{part}proj.weight"].T + self.w[f"{part}proj.bias"]


def bias_row(sizes, query, key):
    """The row of the bias table of two places, each a kind and a number, 0 for [CLS]."""
    window, reach = sizes.window, sizes.max_text_len_of_initckpt
    patches = (2 * window - 1) ** 2
    (kind, q), (other, k) = query, key
    if kind != other:
        return patches + (3 if kind == "text" else 4)
    after = patches if kind == "image" else patches + 5 + 2 * (reach - 2) + 1
    if q == 0 or k == 0:
        return after + (2 if q == k else 0 if q == 0 else 1)
    if kind == "text":
        return patches + 5 + (k - q) + reach - 2
    (row, column), (row_k, column_k) = divmod(q - 1, window), divmod(k - 1, window)
    return (row - row_k + window - 1) * (2 * window - 1) + column - column_k + window - 1
