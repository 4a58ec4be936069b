"""The loop: a step over several batches, by hand; what is not finite."""

import numpy as np
import pytest
import torch
from support.tiny_clip import paint, text_of, two_colours
from torch.nn.functional import cross_entropy, normalize

from extract.catalog import Catalog
from extract.encoders import create_encoder
from extract.encoders.projected import ProjectedEncoder
from extract.encoders.weights import trained_weights
from extract.errors import UserError
from extract.finetune.loop import finetune
from extract.finetune.material import read_pairs
from extract.finetune.objective import Objective
from extract.finetune.options import TuneOptions
from extract.finetune.pairs import hold_out
from extract.finetune.retrieval import retrieval_recalls
from extract.finetune.tuning import Tuning

CPU = torch.device("cpu")
RATE = 0.5


@pytest.fixture
def catalog(tmp_path):
    for number in range(24):
        paint(*two_colours(number)).save(tmp_path / f"{number}.png")
    return Catalog.from_columns(
        [f"i{number}" for number in range(24)],
        [text_of(number) for number in range(24)],
        [f"{number}.png" for number in range(24)],
        tmp_path,
    )


@pytest.fixture
def plain_descent(monkeypatch):
    """Weights move by the gradient times a rate, so that it can be read off."""

    def descent(encoder, added, own, options):
        return torch.optim.SGD(encoder.parameters(), lr=RATE)

    monkeypatch.setattr("extract.finetune.loop.make_optimizer", descent)


def tuning_of(catalog, **options):
    """Projections over vectors that mean nothing: 18 pairs for training."""
    torch.manual_seed(0)
    encoder = ProjectedEncoder(create_encoder("random:12"), 6)
    options = TuneOptions(**{"epochs": 1, "warmup": 0, "clip_norm": 0, **options})
    material = read_pairs(encoder, catalog, CPU, 0)
    return Tuning(
        encoder=encoder,
        added=tuple(name for name, _ in encoder.named_parameters()),
        material=material,
        holdout=hold_out(material.groups, (0.125, 0.125), 0),
        objective=Objective(encoder, options, torch.from_numpy(material.groups)),
        options=options,
        seed=0,
        device=CPU,
    )


def gradients(tuning, places):
    """Of the contrastive loss of some pairs, from its formula."""
    (chunk,) = tuning.material.chunks([places])
    # The towers are frozen: what was kept are their vectors.
    images, texts = (
        normalize(tuning.encoder.heads[name](chunk.inputs[name]), dim=-1)
        for name in ("image", "text")
    )
    logits = images @ texts.T * tuning.encoder.log_scale.exp()
    own = torch.arange(len(places))
    loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    weights = trained_weights(tuning.encoder)
    found = torch.autograd.grad(loss, list(tuning.encoder.parameters()))
    return loss.item(), dict(zip(weights, found, strict=True))


@pytest.mark.parametrize(("batch", "accumulate", "batches"), [(6, 3, 3), (9, 2, 2), (9, 99, 2)])
@pytest.mark.parametrize("chunk", [None, 4])
def test_a_step_over_batches_is_the_mean_of_their_gradients(
    catalog, plain_descent, batch, accumulate, batches, chunk
):
    tuning = tuning_of(catalog, batch_size=batch, accumulate=accumulate, chunk_size=chunk)
    order = np.random.default_rng([0, 0]).permutation(tuning.holdout.training)
    assert len(order) == 18 == batch * batches
    parts = [gradients(tuning, places) for places in np.split(order, batches)]
    before = {name: w.clone() for name, w in trained_weights(tuning.encoder).items()}
    after, steps = {}, []

    def on_epoch(record):
        if record["epoch"] == 1:
            assert record["loss"]["itc"] == pytest.approx(np.mean([loss for loss, _ in parts]))
            after.update({n: w.clone() for n, w in trained_weights(tuning.encoder).items()})

    finetune(tuning, on_epoch=on_epoch, on_step=steps.append)
    assert steps == [18]
    for name, weight in before.items():
        mean = sum(found[name] for _, found in parts) / batches
        assert mean.abs().max() > 0
        torch.testing.assert_close(after[name], weight - RATE * mean, rtol=1e-4, atol=1e-6)


def test_a_batch_is_no_larger_than_what_is_there(catalog):
    tuning = tuning_of(catalog, batch_size=1000, accumulate=7)
    assert (tuning.batch, tuning.accumulate, tuning.steps) == (18, 1, 1)
    assert (tuning_of(catalog, batch_size=4, accumulate=2).steps) == 2


def test_vectors_that_are_no_numbers_find_nothing():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 30, 4, generator=generator)
    nothing = torch.full_like(images, torch.nan)
    for pair in ((nothing, texts), (images, nothing), (nothing, nothing)):
        assert set(retrieval_recalls(*pair, torch.arange(30)).values()) == {0.0}


def test_a_loss_that_is_not_finite_is_told_with_its_place(catalog):
    tuning = tuning_of(catalog, batch_size=6, epochs=3)
    told = []

    def on_step(pairs):
        told.append(pairs)
        if len(told) == 4:
            with torch.no_grad():
                tuning.encoder.heads["text"][-1].weight.fill_(torch.inf)

    with pytest.raises(UserError, match="the loss itc is not finite at step 2 of epoch 2"):
        finetune(tuning, on_step=on_step)
    assert len(told) == 4
