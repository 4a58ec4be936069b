"""A small encoder with a tower that sees a picture and a text together."""

import numpy as np
import torch

from extract.encoders.base import Collate, Encoder


class Pairer(Encoder):
    """Mean colours; the number of letters and their mean; and a layer over all five.

    Attributes:
        asked: How many pictures, texts and pairs it was asked for.
        types: The types of the pixels that came with texts.
    """

    image_parts = ("lens.",)

    def __init__(self, spec="pairer", unit=False, convolutional=False):
        normalized = {"image": False, "text": False, "fused": unit}
        super().__init__(spec, normalized, mean_colour, code_points, Collate())
        self.dims = {"image": 3, "text": 2, "fused": 4}
        self.unit = unit
        # More than one convolution, as those keep full precision.
        layers = [torch.nn.Conv2d(1, 1, 1) for _ in range(2 * convolutional)]
        self.lens = torch.nn.Sequential(*layers)
        self.mix = torch.nn.Linear(5, 4)
        with torch.no_grad():
            self.mix.weight.copy_(torch.linspace(-2, 2, 20).reshape(4, 5).sin())
            self.mix.bias.zero_()
        self.asked = {"image": 0, "text": 0, "fused": 0}
        self.types = set()

    def encode_image(self, images):
        self.asked["image"] += len(images)
        return images

    def encode_text(self, tokens):
        self.asked["text"] += len(tokens["input_ids"])
        return letters_of(tokens)

    def encode_joint(self, images, tokens):
        self.asked["fused"] += len(images)
        self.types.add(images.dtype)
        both = torch.cat([images, letters_of(tokens)], dim=1).to(self.mix.weight.dtype)
        found = torch.tanh(self.mix(both))
        return torch.nn.functional.normalize(found, dim=-1) if self.unit else found

    def identity(self):
        return {"family": "pairer", "unit": self.unit}


def mean_colour(picture):
    return torch.from_numpy(np.asarray(picture, dtype=np.float32).mean(axis=(0, 1)) / 255)


def code_points(text):
    return [ord(letter) for letter in text]


def letters_of(tokens):
    """What padding must not change: the number of letters and their mean."""
    mask = tokens["attention_mask"]
    count = mask.sum(dim=1)
    mean = (tokens["input_ids"] * mask).sum(dim=1) / count
    return torch.stack([count / 10, mean / 100], dim=1)


def pair_vector(encoder, picture, text):
    """The joint vector of one pair, encoded alone and in full precision."""
    tokens = encoder.collate({"text": [encoder.prepare_text(text)]})["text"]
    with torch.no_grad():
        return encoder.encode_joint(encoder.prepare_image(picture)[None], tokens)[0].numpy()
