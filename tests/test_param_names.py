"""Weights under other names: features are those of torchvision, timm and Haiku, both ways."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
import torchvision
from golden import make_haiku_resnet, make_timm_vit, make_torchvision

from jaxssl.data import open_source
from jaxssl.data.loading import stack_arrays
from jaxssl.data.squares import SquareSpec
from jaxssl.models import ENCODERS, variable_shapes
from jaxssl.models.resnet import BLOCKS, ResNet
from jaxssl.models.vit import ViT
from jaxssl.pretrained.param_names import from_tensors, to_flax, to_torch
from jaxssl.pretrained.weight_files import read_weights, write_weights

SIZE = 64


@functools.cache
def scenes():
    """Normalized images f32[2, s, s, 3] of the embedded scenes."""
    source = open_source("scenes:2")
    images = stack_arrays(source, [0, 1], SquareSpec(SIZE))["image"]
    return (images.astype(np.float32) / 255 - 0.45) / 0.22


def in_torch(name):
    """A network of torchvision or timm with random weights and statistics."""
    library, _, name = name.partition("/")
    if library == "torchvision":
        net = getattr(torchvision.models, name)()
        net.fc = torch.nn.Identity()
    else:
        size = {"img_size": SIZE} if "vit" in name else {}
        net = timm.create_model(name, num_classes=0, **size)
    draw = (make_timm_vit if "vit" in name else make_torchvision).draw_weights
    weights = draw({k: tuple(v.shape) for k, v in net.state_dict().items() if v.ndim})
    for key in weights:  # or the features of fifty residual blocks would be hundreds
        if key.startswith("layer") and key.endswith(("bn3.weight", "bn3.bias")):
            weights[key] *= 0.3
    net.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    return net.eval(), weights


def here(name):
    """The encoder of that name, and the shapes of its variables."""
    options = {"image_size": SIZE} if "vit" in name else {}
    net = ENCODERS["_".join(name.partition("/")[2].split("_")[:2])](**options)
    return net, variable_shapes(net, SIZE)


@pytest.mark.parametrize(
    "name",
    [f"torchvision/resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    + ["timm/resnet50", "timm/vit_small_patch16_224"],
)
def test_features_are_the_same_both_ways(name):
    theirs, weights = in_torch(name)
    ours, shapes = here(name)
    loaded = from_tensors(weights, shapes)
    assert (loaded.naming, loaded.ignored) == ("torch", ())
    variables = jax.tree.map(jnp.asarray, loaded.variables)
    features = ours.apply(variables, jnp.asarray(scenes()), train=False)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(scenes()).permute(0, 3, 1, 2)).numpy()
    assert 0.1 < abs(expected).max() < 100
    np.testing.assert_allclose(features.pooled, expected, rtol=0, atol=1e-4)
    back = to_torch(loaded.variables)
    assert set(back) == set(weights)
    for key, array in back.items():
        np.testing.assert_array_equal(array, weights[key])


def test_torch_loads_strictly_what_it_is_given():
    _, shapes = here("torchvision/resnet18")
    variables = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    tensors = {k: torch.from_numpy(v.copy()) for k, v in to_torch(variables).items()}
    keys = torchvision.models.resnet18().load_state_dict(tensors, strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == (["fc.weight", "fc.bias"], [])


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_haiku_features_are_the_same(golden, monkeypatch, tmp_path):
    monkeypatch.setitem(BLOCKS, 50, (1, 1, 1, 1))
    expected = golden("haiku_resnet")
    sizes = [tuple(map(int, filter(None, s.split(",")))) for s in expected["shapes"]]
    weights = make_haiku_resnet.draw_weights(dict(zip(expected["names"], sizes, strict=True)))
    images = jnp.asarray(make_haiku_resnet.draw_images())
    net = ResNet(depth=50, padding="same")
    np.savez(tmp_path / "byol.npz", **weights)
    write_weights(tmp_path / "byol.safetensors", weights, {})
    for path in tmp_path.iterdir():
        loaded = from_tensors(read_weights(path).tensors, variable_shapes(net, SIZE))
        assert (loaded.naming, loaded.ignored) == ("haiku", ())
    pooled = net.apply(loaded.variables, images, train=False).pooled
    largest = abs(expected["pooled"]).max()
    np.testing.assert_allclose(pooled, expected["pooled"], rtol=0, atol=1e-5 * largest)
    otherwise = ResNet(depth=50).apply(loaded.variables, images, train=False).pooled
    assert abs(otherwise - expected["pooled"]).max() > 0.01 * largest


@pytest.mark.parametrize("prefix", ["", "module.encoder_q.", "backbone."])
def test_a_common_prefix_is_found(small_resnet, prefix):
    shapes, variables = small_resnet
    tensors = {prefix + k: v for k, v in to_torch(variables).items()}
    assert_same(from_tensors(tensors, shapes).variables, variables)


def test_of_several_networks_the_evaluated_one_is_taken(small_resnet):
    shapes, variables = small_resnet
    other = jax.tree.map(lambda x: x + 1, variables)
    tensors = {f"student.{k}": v for k, v in to_torch(other).items()}
    tensors |= {f"teacher.backbone.{k}": v for k, v in to_torch(variables).items()}
    assert_same(from_tensors(tensors, shapes).variables, variables)
    twins = {f"{n}.{k}": v for n in "ab" for k, v in to_torch(variables).items()}
    with pytest.raises(ValueError, match="several such networks, a. and b."):
        from_tensors(twins, shapes)
    assert_same(from_tensors(twins, shapes, "b").variables, variables)


def test_paths_and_half_precision(small_resnet):
    shapes, variables = small_resnet
    assert_same(from_tensors(to_flax(variables), shapes).variables, variables)
    halves = {k: v.astype(np.float16) for k, v in to_torch(variables).items()}
    loaded = from_tensors(halves, shapes).variables
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}


def test_classifiers_are_left_out_and_what_else_there_is_named(small_resnet):
    shapes, variables = small_resnet
    more = ("fc.weight", "bn1.num_batches_tracked", "head.bias", "projector.0.weight", "queue")
    more += ("layer1.0.bn1.num_batches_tracked",)
    tensors = to_torch(variables) | {name: np.zeros(3) for name in more}
    assert from_tensors(tensors, shapes).ignored == ("projector.0.weight", "queue")


def without(tensors, name):
    return {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {}, "0 of the 85 tensors of the encoder: "),
        (lambda t: {"x": np.zeros(3)}, "0 of the 85 tensors"),
        (lambda t: without(t, "layer2.0.conv2.weight"), "84 of the 85.*layer2.0.conv2.weight is"),
        (lambda t: without(t, "bn1.running_var"), "bn1.running_var is missing"),
        (lambda t: t | {"bn1.bias": t["bn1.bias"] * np.nan}, "bn1.bias holds values that are not"),
        (lambda t: t | {"conv1.weight": np.zeros((9, 3, 7, 7))}, r"conv1.weight is \(9, 3, 7, 7\)"),
        (lambda t: t | {"layer1.1.conv1.weight": np.zeros(1)}, "also has layer1.1.conv1.weight"),
        (lambda t: t | {"layer1.0.se.fc1.weight": np.zeros(1)}, "also has layer1.0.se.fc1.weight"),
        # Words of classifiers excuse nothing in a layer: of SE-ResNets and of attention.
        (lambda t: t | {"layer1.0.se.fc.0.weight": np.zeros(1)}, "also has layer1.0.se.fc.0"),
        (lambda t: t | {"layer1.0.attn.head.bias": np.zeros(1)}, "also has layer1.0.attn.head"),
    ],
)
def test_another_architecture_is_refused_in_one_line(small_resnet, change, message):
    shapes, variables = small_resnet
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        from_tensors(change(to_torch(variables)), shapes)
    assert re.search(message, str(error.value))


def test_other_depths_are_refused():
    tensors = {d: to_torch(zeros(ResNet(depth=d))) for d in (18, 34)}
    for depth, other in ((18, 34), (34, 18)):
        with pytest.raises(ValueError, match="set encoder.name"):
            from_tensors(tensors[other], variable_shapes(ResNet(depth=depth), SIZE))


def test_layer_scale_and_other_sizes_of_a_vit_are_refused():
    net = ViT(dim=16, depth=1, heads=2, image_size=32)
    tensors, shapes = to_torch(zeros(net)), variable_shapes(net, 32)
    assert_same(from_tensors(tensors, shapes).variables, zeros(net))
    with pytest.raises(ValueError, match="also has blocks.0.ls1.gamma"):
        from_tensors(tensors | {"blocks.0.ls1.gamma": np.zeros(16)}, shapes)
    with pytest.raises(ValueError, match="pos_embed is .1, 5, 16..*image_size"):
        from_tensors(tensors, variable_shapes(ViT(dim=16, depth=1, heads=2, image_size=48), 32))


def zeros(net):
    return jax.tree.map(lambda s: np.zeros(s.shape, np.float32), variable_shapes(net, 32))


class Own(nn.Module):
    """An encoder of one's own, whose layers have the names that Flax gives them."""

    @nn.compact
    def __call__(self, images, train):
        return nn.Conv(4, (3, 3))(images)


def test_layers_named_by_flax_come_back_from_torch():
    variables = jax.device_get(Own().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    loaded = from_tensors(to_torch(variables), shapes)
    found = {name: loaded.variables[name] for name in variables}  # and no statistics beside them
    jax.tree.map(np.testing.assert_array_equal, found, variables)
