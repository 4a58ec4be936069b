"""Towers in steps: done one after the other they are the tower, for every family."""

import pytest
import torch
from PIL import Image

from extract.encoders import create_encoder
from extract.encoders.base import Encoder
from extract.encoders.loading import library
from extract.encoders.projected import ProjectedEncoder
from extract.encoders.single import PairEncoder, TimmTower
from extract.finetune.kept import Kept, frozen_steps, run_steps

TEXTS = ["a red shoe", "blue jeans with two pockets and a zip", "x"]
COLOURS = ["red", "green", "navy"]


def inputs_of(encoder: Encoder):
    pictures = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
    prepared = {
        "image": [encoder.prepare_image(picture) for picture in pictures],
        "text": [encoder.prepare_text(text) for text in TEXTS],
    }
    return encoder.collate(prepared)


@pytest.fixture(scope="module")
def offline():
    return create_encoder("offline")


@pytest.fixture(scope="module")
def with_transformer(offline):
    torch.manual_seed(1)
    vit = library("timm").create_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=0, depth=2
    )
    return PairEncoder("pair:test", TimmTower(vit.eval()), offline.text)


@pytest.mark.parametrize("made", ["offline", "with_transformer", "projected", "hf"])
def test_steps_one_after_the_other_are_the_tower(made, offline, with_transformer, hf_folder):
    encoder = {
        "offline": lambda: offline,
        "with_transformer": lambda: with_transformer,
        "projected": lambda: ProjectedEncoder(offline, 8, layers=2).eval(),
        "hf": lambda: create_encoder(f"hf:{hf_folder}"),
    }[made]()
    with torch.no_grad():
        for modality, inputs in inputs_of(encoder).items():
            expected = encoder.encode({modality: inputs})[modality]
            found = run_steps(encoder.stages(modality), inputs)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("made", "image_steps", "text_steps"),
    [("offline", 9, 8), ("with_transformer", 4, 8)],
)
def test_every_weight_belongs_to_one_step(made, image_steps, text_steps, offline, with_transformer):
    encoder = {"offline": offline, "with_transformer": with_transformer}[made]
    steps = [*encoder.stages("image"), *encoder.stages("text")]
    assert len(encoder.stages("image")) == image_steps
    assert len(encoder.stages("text")) == text_steps
    weights = [id(weight) for step in steps for weight in step.parameters]
    assert len(weights) == len(set(weights))
    # The pooler of BERT has weights, too, but no sentence vector goes through it.
    unused = {id(weight) for weight in offline.text.model[0].auto_model.pooler.parameters()}
    assert set(weights) | unused == {id(weight) for weight in encoder.parameters()}


def test_what_frozen_steps_gave_can_be_kept_without_padding(offline):
    encoder = offline.requires_grad_(False)
    encoder.text.model[0].auto_model.encoder.layer[4].requires_grad_(True)
    inputs = inputs_of(encoder)["text"]
    frozen, trained = frozen_steps(encoder, "text")
    assert (len(frozen), len(trained)) == (5, 3)
    kept = Kept()
    with torch.no_grad():
        expected = encoder.encode_text(inputs)
        kept.add(run_steps(frozen, inputs))
        assert [len(state["mask"]) for state in kept.states] == inputs["attention_mask"].sum(
            dim=1
        ).tolist()
        found = run_steps(trained, kept.take([2, 0]))
    torch.testing.assert_close(found, expected[[2, 0]], rtol=1e-5, atol=1e-5)
    encoder.requires_grad_(True)
