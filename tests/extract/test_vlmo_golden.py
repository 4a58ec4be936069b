"""VLMo against outputs of the published code, on small checkpoints in its format.

They are no part of the project: ``shared/goldens/vlmo`` beside the checkout holds them, the script
that compares, and the keys and shapes of the full-size models.
"""

import importlib.util
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.encoders import create_encoder
from extract.encoders.vlmo.model import VLMo
from extract.encoders.vlmo.positions import relative_index
from extract.encoders.vlmo.sizes import KNOWN

HERE = Path(__file__).parent
GOLDENS = HERE.parents[2] / "shared" / "goldens" / "vlmo"
GREY_LEVEL = 2 / 255
# How many numbers each has that are compared: outputs, losses, gradient norms; at another size.
OUTPUTS, RESIZED = 17, 5

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not GOLDENS.is_dir(), reason=f"the golden outputs are not at {os.path.relpath(GOLDENS)}"
    ),
]


def module_of(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def check():
    return module_of(GOLDENS / "check.py")


@pytest.fixture(scope="module")
def adaptor():
    return module_of(HERE / "vlmo_golden.py")


@pytest.mark.parametrize("name", ["base_like", "base_plus_like"])
def test_outputs_equal_those_of_the_published_code(check, adaptor, name):
    results = check.check(adaptor.load, str(GOLDENS / name), atol=1e-4, grad_rtol=1e-3)
    assert len(results) == OUTPUTS
    assert {result.status for result in results} == {"ok"}, results
    retrieval = {
        result.name: result.max_abs
        for result in results
        if result.name.endswith(("cls_feats", "vlffn_feats"))
        and result.name.startswith(("image_cls", "text_cls"))
    }
    assert len(retrieval) == 4
    assert max(retrieval.values()) < 1e-5, retrieval


@pytest.mark.parametrize("name", ["base_like", "base_plus_like"])
def test_another_resolution_equals_the_published_interpolation(check, adaptor, name):
    results = check.check_resize(adaptor.load, str(GOLDENS / name), atol=1e-4)
    assert len(results) == RESIZED
    assert {result.status for result in results} == {"ok"}, results
    assert max(result.max_abs for result in results) < 1e-5, results


def test_pictures_become_the_published_pixels(check, adaptor):
    results = check.check_preprocess(adaptor.preprocess, str(GOLDENS / "preprocess"))
    assert len(results) == 5
    for result in results:
        # From Pillow 13 on the two passes over a tall photo may change places.
        levels = 4 if result.name == "photo_tall.jpg" else 1
        assert result.max_abs <= levels * GREY_LEVEL + 1e-6, result


def test_texts_become_the_published_ids():
    encoder = create_encoder(f"vlmo:{GOLDENS / 'base_like' / 'checkpoint.pt'}")
    with np.load(GOLDENS / "base_like" / "inputs.npz") as inputs:
        texts, ids = inputs["texts"], inputs["input_ids"]
        counts = inputs["attention_mask"].sum(axis=1)
    assert len(texts) == 8
    for text, row, count in zip(texts, ids, counts, strict=True):
        assert encoder.prepare_text(str(text)) == row[:count].tolist()


def test_the_index_is_the_one_that_a_checkpoint_holds():
    file = GOLDENS / "base_like" / "checkpoint.pt"
    weights = torch.load(file, weights_only=True)["state_dict"]
    joint = relative_index(4, 40, 196)
    assert torch.equal(joint, weights["text_imag_relative_position_index"].long())
    assert torch.equal(joint[:40, :40], weights["text_relative_position_index"])
    assert torch.equal(joint[40:, 40:], weights["relative_position_index"])


def shapes_of(sizes, heads):
    with torch.device("meta"):
        model = VLMo(sizes, heads)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def count(shapes, *begin):
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(begin))


@pytest.mark.parametrize(("name", "millions"), [("base", 175.43), ("base_plus", 166.57)])
def test_full_size_models_have_the_published_keys_and_shapes(name, millions):
    told = json.loads((GOLDENS / f"vlmo_{name}_keys.json").read_text())
    expected = {
        key: tuple(entry["shape"])
        for key, entry in told["state_dict"].items()
        if key not in told["non_parameter_keys"]
    }
    assert len(expected) == told["n_keys"] - 1
    found = shapes_of(KNOWN[name], ("itc_vl", "itm", "mlm"))
    assert found == expected
    assert count(found, "") == told["n_parameters"]
    published = count(found, "transformer.", "text_embeddings.", "relative_position_bias_table")
    assert published == told["n_parameters_as_in_official_README"]["count"]
    assert round(published / 1e6, 2) == millions

    retrieval = {
        key: expected[key] for key in expected.keys() - told["variants"]["irtr"]["removed"]
    }
    assert shapes_of(KNOWN[name], ()) == retrieval

    reshaped = told["variants"]["image_size_384"]["reshaped"]
    larger = shapes_of(replace(KNOWN[name], image_size=384), ("itc_vl", "itm", "mlm"))
    assert larger == expected | {key: tuple(shape) for key, shape in reshaped.items()}
