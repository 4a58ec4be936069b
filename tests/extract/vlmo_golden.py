"""Our VLMo behind the interface by which the golden outputs' ``check.py`` compares one.

From this folder: ``python CHECK.PY --adaptor vlmo_golden:load FOLDER``, and
``python CHECK.PY --preprocess vlmo_golden:preprocess FOLDER``.
"""

import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from extract.encoders import create_encoder
from extract.encoders.vlmo.preparation import SquarePixels

MLM_WEIGHT = 0.25


def load(path, config):
    """The checkpoint at the configuration's image size."""
    return Adapted(create_encoder(f"vlmo:{path}@{config['image_size']}"))


def preprocess(path):
    """A picture's file to pixels; the colours as the published code reads them."""
    with Image.open(path) as picture:
        return SquarePixels(224)(picture.convert("RGB"))


class Adapted:
    """An encoder under the names of the golden outputs."""

    def __init__(self, encoder):
        self.encoder = encoder
        self.model = encoder.model

    def image(self, images):
        images = torch.from_numpy(images)
        table = self.model.relative_position_bias_table
        table = self.model.transformer.pos_embed if table is None else table
        return {
            **self._views("image", images),
            "raw_cls_feats": self.model.run(self.model.embed_image(images), "image")[:, 0],
            "position_table": table,
        }

    def text(self, ids, mask):
        tokens = tokens_of(ids, mask)
        hidden = self.model.embed_text(tokens["input_ids"])
        raw = self.model.run(hidden, "text", tokens["attention_mask"].bool())[:, 0]
        return {**self._views("text", tokens), "raw_cls_feats": raw}

    def joint(self, images, ids, mask):
        images, tokens = torch.from_numpy(images), tokens_of(ids, mask)
        hidden = self.model.joint(images, tokens["input_ids"], tokens["attention_mask"].bool())
        return {
            "cls_feats": self.encoder.encode_joint(images, tokens),
            "raw_cls_feats": hidden[:, 0],
            "itm_logits": self.encoder.match_logits(images, tokens),
            "mlm_logits": self.encoder.word_logits(images, tokens),
        }

    def itc(self, images, ids, mask):
        logits = self._contrast(images, ids, mask)
        return dict(zip(("logits_per_image", "logits_per_vlffn_image"), logits, strict=True))

    def losses(self, images, ids, mask, mlm_images, mlm_ids, mlm_mask, mlm_labels):
        first, second = (symmetric(logits) for logits in self._contrast(images, ids, mask))
        tokens = tokens_of(mlm_ids, mlm_mask)
        words = self.encoder.word_logits(torch.from_numpy(mlm_images), tokens)
        labels = torch.from_numpy(mlm_labels)
        mlm = cross_entropy(words.flatten(0, 1), labels.flatten(), ignore_index=-100)
        return {"irtr": first, "itc": (first + second) / 2, "mlm": MLM_WEIGHT * mlm}

    def irtr_grad_norms(self, images, ids, mask):
        self.model.zero_grad()
        symmetric(self._contrast(images, ids, mask)[0]).backward()
        parameters = self.model.named_parameters()
        return {name: p.grad.norm() for name, p in parameters if p.grad is not None}

    def _views(self, modality, batch):
        views = self.encoder.encode_views(modality, batch)
        return dict(zip(("cls_feats", "cls_vlffn_feats"), views, strict=True))

    def _contrast(self, images, ids, mask):
        pictures = self.encoder.encode_views("image", torch.from_numpy(images))
        texts = self.encoder.encode_views("text", tokens_of(ids, mask))
        scales = self.encoder.log_scales
        return [s.exp() * p @ t.T for s, p, t in zip(scales, pictures, texts, strict=True)]


def tokens_of(ids, mask):
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def symmetric(logits):
    labels = torch.arange(len(logits))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
