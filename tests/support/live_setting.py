"""A recommender with a small encoder in its loop, and the plain graph of the same loss."""

import copy

import numpy as np
import pytest
import torch
from support.two_towers import (
    BOTH,
    assert_same_gradients,
    gradients,
    having,
    interactions,
    item_rows,
    plain_tables,
    store_of,
    two_pass,
)

from pipelines.end_to_end import EncodedFeatures
from pipelines.end_to_end_config import EndToEndOptions
from recommend.models import TrainingData, model_class
from recommend.sampling import Sampler

SMALL = {
    "embedding_size": 6,
    "neighbours": 3,
    "feature_size": 5,
    "latent_size": 5,
    "content_size": 5,
}


class Setting:
    """A recommender, an encoder in its loop, and the plain graph beside it.

    Args:
        encoder: What is trained of it has ``requires_grad``.
        catalog: The items.
        name: Of the recommender; SLMRec's task may follow after a hyphen.
        chunk: Items at once; None for all.
        modalities: The vectors.
        keep: Of what the items show and say.
        groups: Of each item; those of one group are not contrasted.
        options: Of training end to end; by default gradients have any length.
    """

    def __init__(
        self,
        encoder,
        catalog,
        name="vbpr",
        chunk=3,
        modalities=BOTH,
        keep="states",
        groups=None,
        **options,
    ):
        self.encoder, self.catalog, self.chunk, self.groups = encoder, catalog, chunk, groups
        self.rows, train = item_rows(), interactions()
        store = store_of(encoder.eval(), catalog, self.rows, modalities)
        self.model = small_model(name, TrainingData(train, store))
        self.passes = two_pass(encoder, catalog, chunk, modalities, keep)
        self.options = EndToEndOptions(**{"chunk_size": chunk or 0, "clip_norm": 0.0} | options)
        common = (self.passes, store, self.rows, self.options)
        self.features = EncodedFeatures(*common, groups=groups).double()
        self.sampler = Sampler(train, 5, np.random.default_rng(2))
        self.features.train()
        self.features.begin_epoch()
        with torch.no_grad():
            self.model.begin_epoch(self.features.constant(), self.sampler.generator)
        self.batches = list(self.sampler.epoch())

    def learned(self):
        """The gradients of all weights, those of the ITC term's own scale, too."""
        own = dict(self.features.named_parameters(recurse=False))
        own = {name: None if w.grad is None else w.grad.clone() for name, w in own.items()}
        return gradients(self.encoder), gradients(self.model) | own

    def ours(self, batch, seed=3):
        """The gradients of the loss over a batch as training has them, and the terms."""
        torch.manual_seed(seed)
        self.clear()
        terms = self.model.loss(batch, self.features(batch.items)) | self.features.loss()
        torch.stack(list(terms.values())).sum().backward()
        self.features.backward()
        return *self.learned(), terms, torch.get_rng_state()

    def plain(self, batch, trained=None):
        """The same from one graph, of the model and the tables as they are now."""
        torch.manual_seed(3)
        self.clear()
        model, stale = copy.deepcopy(self.model), self.features.tables()
        items = batch.items.tolist()
        tables = plain_tables(
            self.encoder, self.catalog, stale, self.rows, items, self.chunk, trained
        )
        terms = model.loss(batch, tables)
        if self.options.itc_weight:
            terms["itc"] = self.options.itc_weight * self.contrast(tables, items)
        torch.stack(list(terms.values())).sum().backward()
        state = torch.get_rng_state()
        self.model, model = model, self.model
        found = self.learned()
        self.model = model
        return *found, terms, state

    def contrast(self, tables, items):
        """ITC, pair by pair; those of a group are left out."""
        both = set(having("image")) & set(having("text"))
        pairs = [item for item in items if self.rows[item] in both]
        scale = (self.encoder.log_scales or (getattr(self.features, "log_scale", None),))[0].exp()
        total = 0.0
        for one, other in (BOTH, BOTH[::-1]):
            for i in pairs:
                logits = {
                    j: scale * torch.cosine_similarity(tables[one][i], tables[other][j], dim=0)
                    for j in pairs
                    if j == i or self.groups is None or self.groups[i] != self.groups[j]
                }
                total = total + torch.logsumexp(torch.stack(list(logits.values())), 0) - logits[i]
        return total / (2 * len(pairs))

    def clear(self):
        for module in (self.encoder, self.model, self.features):
            module.zero_grad()

    def move(self):
        """A step, so that the weights are others and the rows of a batch are old."""
        with torch.no_grad():
            for module in (self.encoder, self.model):
                for weight in module.parameters():
                    if weight.grad is not None:
                        weight -= 0.05 * weight.grad / weight.grad.norm().clamp(min=1e-12)


def small_model(name, data):
    """A recommender in double precision and in training mode."""
    name, _, task = name.partition("-")
    kind = model_class(name)
    settings = {key: SMALL[key] for key in SMALL.keys() & kind.config_class.model_fields}
    torch.manual_seed(1)
    model = kind(kind.config_class(**settings | ({"task": task} if task else {})), data)
    return model.double().train()


def assert_like_the_plain_graph(setting, without=(), trained=None, steps=2):
    """Over some steps: gradients of encoder and model, terms, and what is drawn."""
    for batch in setting.batches[:steps]:
        expected = setting.plain(batch, trained)
        found = setting.ours(batch)
        assert_same_gradients(found[0], expected[0])
        assert_same_gradients(found[1], expected[1])
        assert found[2].keys() == expected[2].keys()
        for name, term in expected[2].items():
            assert found[2][name].item() == pytest.approx(term.item(), rel=1e-9), name
        assert torch.equal(found[3], expected[3])  # the second pass uses up no random numbers
        reached = {name for name, gradient in found[0].items() if gradient is not None}
        assert {name for name, _ in setting.encoder.named_parameters()} - reached == set(without)
        assert all(found[0][name].abs().max() > 0 for name in reached)
        setting.move()
