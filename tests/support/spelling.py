"""A small encoder with several vectors for each picture and text, whose answers are obvious."""

import numpy as np
import torch

from extract.encoders.base import Collate, Encoder

PLACES = 5


class Speller(Encoder):
    """A text's letters with their places; the colours of a picture, as many as it is wide / 32.

    What is padding has numbers, too, so that whoever keeps it is found out.

    Attributes:
        asked: How many pictures and texts its token vectors were asked for.
    """

    def __init__(self, spec="speller", scale=1.0):
        super().__init__(spec, {"image": False, "text": False}, colours, letters, Collate())
        self.dims = {"image": 3, "text": 2}
        self.token_dims = {"image": 3, "text": 2}
        self.scale = torch.nn.Parameter(torch.tensor(scale))
        self.asked = {"image": 0, "text": 0}

    def encode_image(self, images):
        return images["colours"].mean(dim=1) * self.scale

    def encode_text(self, tokens):
        return self.letters_at_places(tokens).mean(dim=1)

    def encode_tokens(self, modality, batch):
        if modality == "text":
            self.asked["text"] += len(batch["input_ids"])
            return self.letters_at_places(batch), batch["attention_mask"].bool()
        self.asked["image"] += len(batch["there"])
        return batch["colours"] * self.scale, batch["there"] > 0

    def letters_at_places(self, tokens):
        ids = tokens["input_ids"]
        places = torch.arange(ids.shape[1]).expand(ids.shape)
        return torch.stack([ids, places], dim=2).to(self.scale.dtype) * self.scale

    def identity(self):
        return {"family": "speller"}


def colours(picture):
    """As many colours as the picture is wide / 32, and junk behind them."""
    count = min(max(picture.width // 32, 1), PLACES)
    found = np.full((PLACES, 3), 99, np.float32)
    found[:count] = np.asarray(picture.resize((count, 1)), np.float32)[0]
    return {"colours": torch.from_numpy(found), "there": (torch.arange(PLACES) < count).long()}


def letters(text):
    return [ord(letter) for letter in text]


def spelled(text, scale=1.0):
    """The token vectors of a text, written down without any tensor."""
    return np.array([[ord(letter) * scale, at * scale] for at, letter in enumerate(text)])


def coloured(picture):
    """The token vectors of a picture: the colours before the junk."""
    found = colours(picture)
    return found["colours"].numpy()[: int(found["there"].sum())]
