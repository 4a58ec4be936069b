import json
import shutil

import numpy as np
import pytest
import torch

from extract.embed import embed
from extract.encoders import create_encoder
from extract.encoders.clip import is_causal
from extract.errors import UserError
from extract.planning import EmbedOptions


def vectors(spec, catalog):
    (batch,) = embed(create_encoder(spec), catalog, EmbedOptions(batch_size=3, workers=0))
    assert batch.present["image"].all()
    assert batch.present["text"].all()
    return batch.vectors


def test_open_clip_and_transformers_agree_on_one_set_of_weights(
    hf_folder, open_clip_folder, catalog
):
    hf = vectors(f"hf:{hf_folder}", catalog)
    clip = vectors(f"clip:{open_clip_folder}", catalog)
    for modality in ("image", "text"):
        assert hf[modality].shape == (8, 24)
        # They tell items apart, so agreement means something.
        assert np.ptp(hf[modality], axis=0).max() > 0.1
        np.testing.assert_allclose(clip[modality], hf[modality], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(clip["fused"], hf["fused"], atol=1e-5)


def test_transformers_vectors_equal_its_own_processor_and_model_one_by_one(hf_folder, catalog):
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(hf_folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(hf_folder)
    tokenizer = AutoTokenizer.from_pretrained(hf_folder)
    got = vectors(f"hf:{hf_folder}", catalog)
    for row in range(len(catalog)):
        tokens = tokenizer([catalog.text(row)], truncation=True, return_tensors="pt")
        pixels = processor(images=catalog.picture(row), return_tensors="pt")
        with torch.no_grad():
            output = model(**tokens, **pixels)  # normalised by the model's own forward
        for modality in ("image", "text"):
            mine = got[modality][row] / np.linalg.norm(got[modality][row])
            theirs = output[f"{modality}_embeds"][0].numpy()
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_weight_file_and_folder_are_one_encoder(
    tiny_model_name, weight_file, open_clip_folder, catalog
):
    by_file = create_encoder(f"clip:{tiny_model_name}/{weight_file}")
    by_folder = create_encoder(f"clip:{open_clip_folder}")
    assert by_file.fingerprint() == by_folder.fingerprint()
    assert by_file.spec != by_folder.spec


@pytest.fixture
def plain_model_name(tiny_model_name, tmp_path):
    """The tiny architecture with GELU instead of QuickGELU."""
    import open_clip

    config = {**open_clip.get_model_config(tiny_model_name), "quick_gelu": False}
    file = tmp_path / "Tiny-Plain-16.json"
    file.write_text(json.dumps(config))
    open_clip.add_model_config(file)
    return "Tiny-Plain-16"


def test_tag_brings_its_activation(plain_model_name, tiny_model_name, weight_file, monkeypatch):
    from open_clip import pretrained

    tag = {"file": str(weight_file), "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, plain_model_name, {"right": tag})
    tagged = create_encoder(f"clip:{plain_model_name}/right")
    assert "QuickGELU" in repr(tagged)
    assert "QuickGELU" not in repr(create_encoder(f"clip:{plain_model_name}/{weight_file}"))
    quick = create_encoder(f"clip:{tiny_model_name}/{weight_file}")
    assert tagged.fingerprint() == quick.fingerprint()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:.*TorchScript archive")
def test_torchscript_archive_is_read_with_quick_gelu(
    plain_model_name, tiny_model_name, weight_file, open_clip_weights, tmp_path
):
    """As OpenAI published its weights: with three numbers among them that are none."""
    numbers = {name: torch.tensor(1) for name in ("input_resolution", "context_length")}
    tree = torch.nn.Module()
    for name, tensor in {**open_clip_weights, **numbers, "vocab_size": torch.tensor(1)}.items():
        *path, leaf = name.split(".")
        module = tree
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_buffer(leaf, tensor)
    archive = tmp_path / "archive.pt"
    torch.jit.save(torch.jit.script(tree), archive)
    read = create_encoder(f"clip:{plain_model_name}/{archive}")
    quick = create_encoder(f"clip:{tiny_model_name}/{weight_file}")
    assert read.fingerprint() == quick.fingerprint()


def test_default_is_the_papers_model():
    with pytest.raises(
        UserError, match=r"clip:ViT-B-16/openai cannot be loaded .*clip:ViT-B-16/FILE"
    ):
        create_encoder("clip")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("clip:ViT-B-61/openai", "unknown open_clip model 'ViT-B-61'; did you mean 'ViT-B-16'"),
        ("clip:ViT-B-16/opena", "unknown tag of ViT-B-16 'opena'; did you mean 'openai'"),
        ("clip:ViT-B-16/no/such.pt", "weight file no/such.pt, which does not exist"),
        ("clip:ViT-B-16//no/such", "weight file /no/such, which does not exist"),
        ("clip:ViT-B-16", "needs a tag or a weight file"),
        ("clip:", "nothing follows the colon"),
        ("clip:./no/such/folder", "which does not exist"),
        ("hf:", "nothing follows the colon"),
        ("hf", "needs a model"),
        ("hf:/no/such/folder", "which does not exist"),
        ("hf:some/model", "cannot be loaded .*check the name, or give the folder"),
    ],
)
def test_wrong_specs_are_told(spec, told):
    with pytest.raises(UserError, match=told):
        create_encoder(spec)


def test_folder_without_configuration_is_told(tmp_path):
    with pytest.raises(UserError, match=r"which has no open_clip_config\.json"):
        create_encoder(f"clip:{tmp_path}")
    with pytest.raises(UserError, match=r"which has no config\.json"):
        create_encoder(f"hf:{tmp_path}")


def test_weights_of_another_model_are_told(weight_file):
    with pytest.raises(UserError, match="check that the weights belong to the model"):
        create_encoder(f"clip:RN50/{weight_file}")


def test_model_that_is_no_dual_encoder_is_told(tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a BertModel, which does not give both"):
        create_encoder(f"hf:{tmp_path}")


def test_folder_with_missing_weights_is_told(hf_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(hf_folder, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="lack 1 tensors of a CLIPModel"):
        create_encoder(f"hf:{broken}")


def test_changed_preprocessing_tokenizer_and_weights_change_the_fingerprint(hf_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    def changed(file, change):
        folder = tmp_path / file
        shutil.copytree(hf_folder, folder)
        change(folder / file)
        return create_encoder(f"hf:{folder}").fingerprint()

    def other_mean(file):
        settings = json.loads(file.read_text())
        file.write_text(json.dumps({**settings, "image_mean": [0.5, 0.5, 0.5]}))

    def other_vocabulary(file):
        words = json.loads(file.read_text())
        words["red</w>"], words["blue</w>"] = words["blue</w>"], words["red</w>"]
        file.write_text(json.dumps(words))

    def other_weight(file):
        weights = load_file(file)
        weights["visual_projection.weight"][0, 0] += 1e-3
        save_file(weights, file, metadata={"format": "pt"})

    def other_activation(file):
        config = json.loads(file.read_text())
        config["text_config"]["hidden_act"] = "gelu"
        file.write_text(json.dumps(config))

    prints = [
        create_encoder(f"hf:{hf_folder}").fingerprint(),
        changed("preprocessor_config.json", other_mean),
        changed("vocab.json", other_vocabulary),
        changed("model.safetensors", other_weight),
        changed("config.json", other_activation),
    ]
    assert len(set(prints)) == 5


def test_texts_without_padding_equal_open_clips_own_of_full_length(tiny_model_name, weight_file):
    encoder = create_encoder(f"clip:{tiny_model_name}/{weight_file}")
    texts = ["x", "a red shoe", "!", "wow!!! !", "one two three " * 60]
    ids = [encoder.prepare_text(text) for text in texts]
    assert [len(one) for one in ids] == [3, 5, 3, 5, 77]
    padded = encoder.prepare_text.tokenizer(texts)
    assert padded.shape == (5, 77)
    batch = encoder.collate({"text": ids[:4]})["text"]
    assert batch["input_ids"].shape == (4, 5)
    found = torch.cat([encoder.encode_text(batch), encoder.encode_text({"input_ids": padded[4:]})])
    torch.testing.assert_close(found, encoder.model.encode_text(padded), atol=1e-5, rtol=1e-4)
    # The words count: another one gives another vector.
    assert (found[0] - found[2]).abs().max() > 1e-3


def test_a_text_tower_of_another_kind_keeps_its_padding(tiny_model_name, tmp_path):
    import open_clip

    config = {**open_clip.get_model_config(tiny_model_name), "custom_text": True}
    (tmp_path / "Custom-Test-16.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "Custom-Test-16.json")
    models = (open_clip.create_model(name) for name in (tiny_model_name, "Custom-Test-16"))
    assert [is_causal(model) for model in models] == [True, False]
