"""Writes pets_ops.npz: torchvision's elastic transform, posterize and solarize on bytes.

pip install torch torchvision numpy && python tests/golden/make_pets_ops.py
"""

import pathlib

import numpy as np
import torch
from torchvision.transforms.v2 import ElasticTransform
from torchvision.transforms.v2 import functional as tv


def main() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((24, 32, 3), dtype=np.float32)
    noise = rng.uniform(-1, 1, (2, 24, 32)).astype(np.float32)
    # What ElasticTransform makes of its noise: the first of the two maps is across.
    smooth = tv.gaussian_blur(torch.from_numpy(noise)[None], [25, 25], [3.0, 3.0])[0]
    offset = 50 * smooth / torch.tensor([32.0, 24.0])[:, None, None]
    chw = torch.from_numpy(image).permute(2, 0, 1)
    elastic = {}
    for name, factor in (("weak", 1.0), ("strong", 8.0)):
        displacement = factor * offset.permute(1, 2, 0)[None]
        elastic[f"displacement_{name}"] = displacement[0].numpy()
        moved = tv.elastic(chw, displacement, fill=ElasticTransform().fill)
        elastic[f"elastic_{name}"] = moved.permute(1, 2, 0).numpy()
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, axis=0)
    pixels = torch.from_numpy(ramp)
    solarized = tv.solarize(pixels, 192)
    results = {
        "posterize_2": tv.posterize(pixels, 2),
        "posterize_4": tv.posterize(pixels, 4),
        "solarize_192": solarized,
        "solarize_posterize": tv.posterize(solarized, 4),
        "posterize_solarize": tv.solarize(tv.posterize(pixels, 4), 192),
    }
    bytes_ = {name: value.permute(1, 2, 0).numpy() for name, value in results.items()}
    np.savez_compressed(
        pathlib.Path(__file__).parent / "pets_ops.npz",
        image=image,
        noise=noise,
        smooth=smooth.numpy(),
        ramp=ramp.transpose(1, 2, 0),
        **elastic,
        **bytes_,
    )


if __name__ == "__main__":
    main()
