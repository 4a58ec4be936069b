"""VLMo's outputs against a forward by hand."""

import numpy as np
import pytest
import torch
from support.tiny_vlmo import inputs_of, padded, tiny_vlmo
from support.vlmo_by_hand import ByHand


@pytest.fixture(scope="module")
def encoders():
    return {"base": tiny_vlmo(relative=True), "base_plus": tiny_vlmo(relative=False)}


@pytest.fixture(params=["base", "base_plus"])
def encoder(encoders, request):
    return encoders[request.param]


def by_hand(encoder):
    return ByHand(encoder.model.state_dict(), encoder.model.sizes)


def own_expert(layer, kind):
    return {"image": "imag", "text": "text"}[kind]


def late_expert(layer, kind):
    return "vl" if layer >= 2 else own_expert(layer, kind)


def unit(vector):
    return vector / np.linalg.norm(vector)


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-5)


def test_pictures_and_texts_equal_a_forward_by_hand(encoder):
    inputs, reference = inputs_of(encoder), by_hand(encoder)
    row, count = 1, int(inputs["text"]["attention_mask"][1].sum())
    hidden = {
        "image": reference.image(inputs["image"][row].double().numpy()),
        "text": reference.text(inputs["text"]["input_ids"][row, :count]),
    }
    for kind, start in hidden.items():
        places = [(kind, number) for number in range(len(start))]
        found, mask = encoder.encode_tokens(kind, inputs[kind])
        views = encoder.encode_views(kind, inputs[kind])
        assert int(mask[row].sum()) == len(start)
        for view, expert, head in (
            (0, own_expert, f"itc_{kind}_proj"),
            (1, late_expert, f"itc_vl_{kind}_proj"),
        ):
            expected = reference.layers(start, places, [True] * len(start), expert)
            projected = expected[0] @ reference.w[f"{head}.fc.weight"].T
            close(views[view][row], unit(projected))
            if view == 0:
                close(found[row, : len(start)], expected)


def test_both_together_equal_a_forward_by_hand(encoder):
    inputs, reference = inputs_of(encoder), by_hand(encoder)
    row, tokens = 2, padded(inputs["text"])
    image = reference.image(inputs["image"][row].double().numpy())
    start = np.concatenate([reference.text(tokens["input_ids"][row]), image])
    places = [("text", n) for n in range(40)] + [("image", n) for n in range(len(image))]
    filled = [*tokens["attention_mask"][row].bool().tolist(), *[True] * len(image)]
    expected = reference.layers(start, places, filled, late_expert)
    w = reference.w
    pooled = np.tanh(expected[0] @ w["pooler.dense.weight"].T + w["pooler.dense.bias"])
    close(encoder.encode_joint(inputs["image"], inputs["text"])[row], pooled)
    matched = pooled @ w["itm_score.fc.weight"].T + w["itm_score.fc.bias"]
    close(encoder.match_logits(inputs["image"], inputs["text"])[row], matched)
    words = encoder.word_logits(inputs["image"], inputs["text"])
    assert words.shape == (3, 40, 30522)
    linear = torch.nn.functional.linear
    part = "mlm_score."
    weights = {name: torch.from_numpy(weight) for name, weight in w.items() if part in name}
    inner = linear(
        torch.from_numpy(expected[:40]),
        weights[f"{part}transform.dense.weight"],
        weights[f"{part}transform.dense.bias"],
    )
    inner = reference.norm(
        torch.nn.functional.gelu(inner).numpy(), f"{part}transform.LayerNorm", 1e-12
    )
    expected = inner @ w[f"{part}decoder.weight"].T + w[f"{part}bias"]
    close(words[row], expected)
