"""DINOv2's Vision Transformer against timm's and transformers', on random weights made here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from torch.nn import functional
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from jaxssl.errors import UserError
from jaxssl.image.augment import normalize
from jaxssl.models import variable_shapes
from jaxssl.models.vit import ViT, _resize
from jaxssl.pretrained.encoder import load_encoder
from jaxssl.pretrained.model_card import torch_code
from jaxssl.pretrained.param_names import from_tensors, to_torch

pytestmark = pytest.mark.usefixtures("small_encoders")
DIM, PATCH, SIDE = 16, 14, 56  # those of the encoder `vit`, and of its images
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3), np.uint8)
LARGER = np.random.default_rng(1).integers(0, 256, (1, 42, 98, 3), np.uint8)
small = functools.partial(ViT, dim=DIM, depth=1, heads=2, patch=PATCH, image_size=SIDE)
OPTIONS = {"hidden_size": DIM, "num_hidden_layers": 1, "num_attention_heads": 2}
OPTIONS |= {"image_size": SIDE, "patch_size": PATCH}


def in_timm(registers, scale=1e-5):
    more = {"reg_tokens": registers, "no_embed_class": True} if registers else {}
    return timm.models.vision_transformer.VisionTransformer(
        img_size=SIDE, patch_size=PATCH, embed_dim=DIM, depth=1, num_heads=2, num_classes=0,
        init_values=scale, dynamic_img_size=True, **more,
    )  # fmt: skip


def in_transformers(registers):
    if registers:
        config = Dinov2WithRegistersConfig(**OPTIONS, num_register_tokens=registers)
        return Dinov2WithRegistersModel(config)
    return Dinov2Model(Dinov2Config(**OPTIONS))


def randomized(net):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.empty(value.shape).normal_(0, 0.3, generator=generator))
    return net.eval()


def tokens(net, images):
    """Outputs of all tokens f32[b, n, d], the class token first."""
    pixels = np.array(normalize(jnp.asarray(images, jnp.float32) / 255, "imagenet"))
    with torch.no_grad():
        given = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        if hasattr(net, "forward_features"):
            return net.forward_features(given).numpy()
        return net(given).last_hidden_state.numpy()


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("make", [in_timm, in_transformers])
def test_features_are_theirs(tmp_path, make, registers):
    net = randomized(make(registers))
    torch.save(net.state_dict(), tmp_path / "dino.pth")
    encoder = load_encoder(tmp_path / "dino.pth", "vit")
    assert (encoder.network.registers, encoder.network.layer_scale) == (registers, 1e-5)
    assert encoder.size == SIDE
    for images in (IMAGES, LARGER):
        if make is in_timm and not registers and images is LARGER:
            assert encoder.network.pos_resize == "offset"  # as the release has them: not as timm
            continue
        expected = tokens(net, images)
        grid = encoder.grid(images)
        patches = expected[:, 1 + registers :].reshape(grid.shape)
        np.testing.assert_allclose(encoder(images), expected[:, 0], atol=1e-4)
        np.testing.assert_allclose(grid, patches, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "student.module.backbone.", "teacher.backbone."])
def test_who_resizes_positions_shows_in_names(prefix, tmp_path, caplog):
    """A ViT without layer scale is timm's, where its names are not of a checkpoint of DINO."""
    caplog.set_level("INFO", "jaxssl")
    net = randomized(in_timm(0, scale=None))
    named = {prefix + name: value for name, value in net.state_dict().items()}
    torch.save(named, tmp_path / "vit.pth")
    encoder = load_encoder(tmp_path / "vit.pth", "vit")
    assert encoder.network.pos_resize == ("offset" if prefix else "antialias")
    who = "the releases of DINO" if prefix else "timm"
    assert caplog.records[0].message.endswith(f"positions are resized as by {who}")
    if not prefix:
        for images in (IMAGES, LARGER):
            np.testing.assert_allclose(encoder(images), tokens(net, images)[:, 0], atol=1e-4)


def test_hugging_faces_files_have_other_names_than_its_models():
    """Those of the hub: `attention.attention.query` and `attention.output.dense`."""
    state = {k: v.numpy() for k, v in randomized(in_transformers(4)).state_dict().items()}
    old = {}
    for name, value in state.items():
        for short, long in (("q_proj", "attention.query"), ("k_proj", "attention.key"),
                            ("v_proj", "attention.value"), ("o_proj", "output.dense")):  # fmt: skip
            name = name.replace(short, long)
        old[name] = value
    shapes = variable_shapes(small(layer_scale=1.0, registers=4), SIDE)
    loaded = [from_tensors(tensors, shapes) for tensors in (state, old)]
    assert [one.naming for one in loaded] == ["transformers 5, DINOv2", "transformers, DINOv2"]
    jax.tree.map(np.testing.assert_array_equal, *(one.variables for one in loaded))


@pytest.mark.parametrize(("how", "options"), [
    ("plain", {"size": (3, 7)}), ("antialias", {"size": (3, 7), "antialias": True}),
    ("offset", {"scale_factor": (3.1 / 5, 7.1 / 5)}),
])  # fmt: skip
def test_positions_are_resized_as_by_torch(how, options):
    given = np.random.default_rng(0).normal(size=(1, 26, 4)).astype(np.float32)
    square = torch.from_numpy(given[:, 1:].reshape(1, 5, 5, 4)).permute(0, 3, 1, 2)
    theirs = functional.interpolate(square, mode="bicubic", **options)
    resized = np.asarray(_resize(jnp.asarray(given), 3, 7, how))
    np.testing.assert_array_equal(resized[:, 0], given[:, 0])
    expected = theirs.permute(0, 2, 3, 1).reshape(1, 21, 4)
    np.testing.assert_allclose(resized[:, 1:], expected, atol=1e-5)


@pytest.mark.parametrize("registers", [0, 4])
def test_export_to_timm(registers):
    net = small(layer_scale=1e-5, registers=registers)
    theirs = randomized(in_timm(registers))
    tensors = {k: v.numpy() for k, v in theirs.state_dict().items()}
    variables = from_tensors(tensors, variable_shapes(net, SIDE)).variables
    exported = to_torch(variables)
    assert {k: v.shape for k, v in exported.items()} == {k: v.shape for k, v in tensors.items()}
    for name, array in exported.items():
        np.testing.assert_array_equal(array, tensors[name])
    assert ("reg_tokens=4, no_embed_class=True" in torch_code(net, "timm", "a")) == bool(registers)


def test_what_does_not_fit():
    tensors = {k: v.numpy() for k, v in in_timm(4).state_dict().items()}
    with pytest.raises(UserError, match="it also has reg_token; set encoder.registers=4"):
        from_tensors(tensors, variable_shapes(small(layer_scale=1.0), SIDE))
    with pytest.raises(UserError, match="for DINOv2 layer_scale"):
        from_tensors(tensors, variable_shapes(small(registers=4), SIDE))
    with pytest.raises(UserError, match="choose one of plain, offset, antialias"):
        small(pos_resize="bicubic")
