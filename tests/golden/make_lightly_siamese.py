"""Writes lightly_siamese.npz: losses and gradients of BYOL and SimSiam with the heads of lightly.

    pip install lightly==1.6.0
    python tests/golden/make_lightly_siamese.py

Two views of 8 images as features f32[8, 16], small heads of lightly on top in training mode, the
mean of the loss over both directions, and its gradient. Names: `<method>/loss` and
`<method>/<params | grad | target>/<head>/<layer>/<parameter>`, as they are in jaxssl.
"""

import pathlib

import numpy as np
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import heads

OURS = {torch.nn.Linear: ("linear", "kernel"), torch.nn.BatchNorm1d: ("bn", "scale")}


def parameters(head):
    """The parameters of a head, by our names."""
    number = 0
    for layer in head.layers:
        if type(layer) in OURS:
            kind, weight = OURS[type(layer)]
            number += kind == "linear"
            for name, p in layer.named_parameters():
                yield f"{kind}{number}/{weight if name == 'weight' else name}", p


def record(method, views, projector, predictor, target=None):
    """What one method gives; without a target it is the projector that makes what is predicted."""
    networks = {"params/projector": projector, "params/predictor": predictor}
    if target is not None:
        networks["target/projector"] = target
    for network in networks.values():  # batch norm starts at 1 and 0, which would test less
        for name, p in parameters(network):
            if name.startswith("bn"):
                torch.nn.init.uniform_(p, 0.5, 1.5)
    p = [predictor(projector(x)) for x in views]
    z = [(target or projector)(x).detach() for x in views]
    loss = (NegativeCosineSimilarity()(p[0], z[1]) + NegativeCosineSimilarity()(p[1], z[0])) / 2
    loss.backward()
    yield f"{method}/loss", loss.detach().numpy()
    for where, network in networks.items():
        for name, p in parameters(network):
            yield f"{method}/{where}/{name}", p.detach().numpy().T
            if where.startswith("params"):
                grad = where.replace("params", "grad")
                yield f"{method}/{grad}/{name}", p.grad.numpy().T


def main() -> None:
    torch.manual_seed(0)
    views = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 8, 16), np.float32))
    simsiam = heads.SimSiamProjectionHead(16, 12, 10), heads.SimSiamPredictionHead(10, 6, 10)
    byol = (
        heads.BYOLProjectionHead(16, 12, 10),
        heads.BYOLPredictionHead(10, 12, 10),
        heads.BYOLProjectionHead(16, 12, 10),
    )
    arrays = {"views": views.numpy()}
    arrays |= dict(record("simsiam", views, *simsiam)) | dict(record("byol", views, *byol))
    np.savez_compressed(pathlib.Path(__file__).with_name("lightly_siamese.npz"), **arrays)


if __name__ == "__main__":
    main()
