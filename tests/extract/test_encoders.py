"""What every encoder keeps to, run over one of each family; and the table."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_vlmo import write_tiny_vlmo

from extract.encoders import ENCODERS, create_encoder, family_of
from extract.encoders.base import Collate
from extract.encoders.loading import tokenizer_digest
from extract.errors import UserError

FAMILIES = ["clip", "clip-paper", "hf", "offline", "random", "vlmo"]
TEXTS = ["a red shoe", "blue jeans with two pockets and a zip", "x"]


@pytest.fixture(scope="module")
def specs(hf_folder, open_clip_folder, tmp_path_factory):
    return {
        "clip": f"clip:{open_clip_folder}",
        "clip-paper": f"clip-paper:{open_clip_folder}",
        "hf": f"hf:{hf_folder}",
        "offline": "offline",
        "random": "random:6",
        "vlmo": f"vlmo:{write_tiny_vlmo(tmp_path_factory.mktemp('tiny-vlmo'))}",
    }


@pytest.fixture(scope="module")
def made(specs):
    return {family: create_encoder(spec) for family, spec in specs.items()}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def pictures(count=3):
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(block).resize((40, 32)) for block in blocks]


def inputs_of(encoder, images, texts):
    return encoder.collate(
        {
            "image": [encoder.prepare_image(image) for image in images],
            "text": [encoder.prepare_text(text) for text in texts],
        }
    )


def test_every_family_is_here():
    # A pair is tested with its two models, of which offline is one; a tuned encoder in test_tuned.
    assert set(FAMILIES) | {"pair", "tuned"} == set(ENCODERS)


def test_vectors_have_the_sizes_and_lengths_that_are_told(made, family):
    encoder = made[family]
    assert not encoder.training
    with torch.no_grad():
        vectors = encoder.encode(inputs_of(encoder, pictures(), TEXTS))
    assert vectors.keys() == encoder.dims.keys() == encoder.normalized.keys()
    for modality, found in vectors.items():
        assert found.shape == (3, encoder.dims[modality])
        lengths = found.norm(dim=1)
        unit = torch.allclose(lengths, torch.ones(3), atol=1e-4)
        assert unit == encoder.normalized[modality]
        assert torch.pdist(found).min() > 1e-3


def test_modalities_may_come_alone(made, family):
    encoder = made[family]
    both = inputs_of(encoder, pictures(), TEXTS)
    with torch.no_grad():
        together = encoder.encode(both)
        for modality in ("image", "text"):
            alone = encoder.encode({modality: both[modality]})
            assert alone.keys() == {modality}
            torch.testing.assert_close(alone[modality], together[modality])


def test_preparation_can_be_sent_to_workers(made, family):
    encoder = made[family]
    for part in (encoder.prepare_image, encoder.prepare_text, encoder.collate):
        sent = pickle.dumps(part)
        assert len(sent) < 8_000_000  # a vocabulary, but no weights
        pickle.loads(sent)
    again = pickle.loads(pickle.dumps(encoder.prepare_text))
    assert again(TEXTS[1]) == encoder.prepare_text(TEXTS[1])
    assert all(isinstance(token, int) for token in again(TEXTS[1]))


@pytest.mark.parametrize("family", ["clip", "hf", "offline", "vlmo"])
def test_gradients_reach_the_weights(made, family):
    encoder = made[family]
    encoder.zero_grad()
    vectors = encoder.encode(inputs_of(encoder, pictures(), TEXTS))
    for modality, found in vectors.items():
        # The direction, not the sum: a normalised vector has no gradient along itself.
        weights = torch.linspace(-1, 1, found.shape[1])
        grown = (found @ weights).sum()
        parameters = dict(encoder.named_parameters())
        gradients = torch.autograd.grad(grown, parameters.values(), allow_unused=True)
        reached = {
            name
            for name, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None and gradient.abs().max() > 0
        }
        assert any(name.endswith("weight") for name in reached), modality
        assert len(reached) > 20


def test_gradient_equals_finite_difference(made):
    encoder = create_encoder(made["clip"].spec).double()
    inputs = inputs_of(encoder, pictures(), TEXTS)
    inputs["image"] = inputs["image"].double()
    for modality, name in (("image", "model.visual.proj"), ("text", "model.text_projection")):
        parameter = dict(encoder.named_parameters())[name]

        def loss(modality=modality):
            return encoder.encode({modality: inputs[modality]})[modality].square().sum()

        (gradient,) = torch.autograd.grad(loss(), parameter)
        step, place = 1e-5, (3, 4)
        with torch.no_grad():
            parameter[place] += step
            above = loss()
            parameter[place] -= 2 * step
            slope = (above - loss()) / (2 * step)
        assert math.isclose(slope, gradient[place], rel_tol=1e-5)


def test_fingerprints_are_the_same_in_another_process(specs, made):
    code = f"""
from extract.encoders import create_encoder
for spec in {list(specs.values())!r}:
    print(create_encoder(spec).fingerprint())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [made[family].fingerprint() for family in specs]


def test_fingerprint_follows_the_weights_not_the_mode(made):
    encoder = create_encoder(made["hf"].spec)
    before = encoder.fingerprint()
    assert encoder.train().fingerprint() == before
    with torch.no_grad():
        next(encoder.parameters()).add_(1e-3)
    assert encoder.fingerprint() != before
    assert len({made[family].fingerprint() for family in FAMILIES}) == len(FAMILIES)


def test_a_tokenizers_digest_does_not_remember_its_last_call(made):
    tokenizer = made["hf"].prepare_text.tokenizer
    before = tokenizer_digest(tokenizer)
    tokenizer("one text", truncation=True, max_length=5, padding="max_length")
    assert tokenizer_digest(tokenizer) == before
    tokenizer("one text", truncation=True, max_length=7)
    assert tokenizer_digest(tokenizer) == before


def test_random_depends_on_the_content_only(made):
    images = pictures(2)
    encoder = made["random"]
    first = encoder.encode(inputs_of(encoder, images, ["a", "b"]))
    other = create_encoder("random:6")
    second = other.encode(inputs_of(other, [images[1], images[0].copy()], ["b", "a"]))
    for modality in ("image", "text"):
        torch.testing.assert_close(first[modality], second[modality].flip(0), rtol=0, atol=0)
        assert not torch.allclose(first[modality][0], first[modality][1])
    assert encoder.fingerprint() == other.fingerprint()
    assert encoder.fingerprint() != create_encoder("random:7").fingerprint()


def test_collate_pads_on_the_tokenizers_side():
    right = Collate(pad_id=9)({"text": [[1, 2, 3], [4]]})["text"]
    assert right["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert right["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    left = Collate(pad_id=9, pad_left=True)({"text": [[1, 2, 3], [4]]})["text"]
    assert left["input_ids"].tolist() == [[1, 2, 3], [9, 9, 4]]
    assert left["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert Collate()({"image": [], "text": []}) == {}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("clop", "unknown encoder 'clop'; did you mean 'clip'"),
        ("", "unknown encoder ''"),
        ("random", "random:DIM needs a vector size"),
        ("random:", "nothing follows the colon"),
        (
            "random:0",
            "random:DIM needs a vector size, such as random:64, at most 65,536; found '0'",
        ),
        ("random:65537", "at most 65,536; found '65537'"),
        ("random:99999999999999", "at most 65,536; found '99999999999999'"),
        ("random:" + "9" * 5000, "at most 65,536"),
        ("random:-3", "found '-3'"),
        ("random:many", "found 'many'"),
    ],
)
def test_wrong_specs_are_told(spec, told):
    with pytest.raises(UserError, match=told):
        create_encoder(spec)


def test_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(
        UserError, match=r"open_clip, which is not installed; pip install open_clip_torch"
    ):
        create_encoder("clip")


def test_family_is_what_stands_before_the_colon():
    assert family_of("clip:ViT-B-16/openai") == family_of("clip") == "clip"
    assert family_of("pair:timm/a+st/b:c") == "pair"


def test_asking_for_one_family_imports_no_other():
    code = """
import sys
from extract.encoders import create_encoder
create_encoder("random:8")
print([name for name in ("transformers", "timm", "open_clip") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
