"""Views in one pass, each a batch of batch norm, against one pass after the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.methods.forward import forward
from jaxssl.models.heads import MLP
from jaxssl.models.resnet import BLOCKS, ResNet


@pytest.mark.parametrize("final", ["affine", "scale", "fixed"])
@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6)])
def test_views_of_a_head_are_batches_of_their_own(final, shape):
    compare(MLP((5,), 3, bias=True, final_batch_norm=final), views_of(shape))


def test_views_of_an_encoder_are_batches_of_their_own(monkeypatch):
    monkeypatch.setitem(BLOCKS, 50, (1, 1, 0, 0))
    net = ResNet(depth=50, stem="cifar", width=0.0625, remat_expansions=True)
    compare(net, views_of((4, 8, 8, 3)))


def views_of(shape: tuple[int, ...]) -> list[jax.Array]:
    """Three, each of another mean and spread."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(i + (1 + i) * rng.standard_normal(shape, np.float32)) for i in range(3)]


def compare(net, views):
    """Results, running averages and gradients of both ways."""
    variables = net.init(jax.random.key(0), views[0], train=False)

    def one_after_the_other(params, stats):
        outputs = []
        for view in views:
            (out,), stats = forward(net, params, stats, [view])
            outputs.append(out)
        return outputs, stats

    def in_one_pass(params, stats):
        return forward(net, params, stats, views, share_batch_norm=False)

    def loss(run, params):
        outputs, stats = run(params, variables["batch_stats"])
        leaves = jax.tree.leaves(outputs)
        weights = [jnp.cos(jnp.arange(x.size)).reshape(x.shape) for x in leaves]
        return sum((w * x).mean() for w, x in zip(weights, leaves, strict=True)), (outputs, stats)

    results = [
        jax.jit(jax.value_and_grad(functools.partial(loss, run), has_aux=True))(variables["params"])
        for run in (one_after_the_other, in_one_pass)
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)
