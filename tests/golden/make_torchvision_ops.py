"""Writes torchvision_ops.npz: torchvision's crops and color operations, and Pillow's blur.

pip install torch torchvision pillow numpy && python tests/golden/make_torchvision_ops.py
"""

import pathlib

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision.transforms.v2 import functional as tv

# y0 x0 y1 x1 and the side of the result: reduced, enlarged, both at once, unchanged, a border strip
CROPS = [(0, 0, 40, 56, 24), (5, 7, 20, 50, 24), (13, 30, 18, 36, 16), (8, 8, 32, 32, 24)]
CROPS += [(0, 53, 40, 56, 16), (39, 55, 40, 56, 8)]


def photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth picture with noise, with black and white parts: f32[height, width, 3]."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 255
    noisy = 1.2 * smooth - 0.1 + rng.normal(0, 0.1, smooth.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)


def main() -> None:
    image = photograph(np.random.default_rng(0), 40, 56)
    chw = torch.from_numpy(image).permute(2, 0, 1)
    results = {
        f"{name}_{amount:+.2f}": operation(chw, amount)
        for name, operation, amounts in [
            ("brightness", tv.adjust_brightness, (0.6, 1.4)),
            ("contrast", tv.adjust_contrast, (0.6, 1.4)),
            ("saturation", tv.adjust_saturation, (0.2, 1.8)),
            ("hue", tv.adjust_hue, (-0.1, 0.3)),
            ("solarize", tv.solarize, (0.5,)),
        ]
        for amount in amounts
    }
    results["grayscale"] = tv.rgb_to_grayscale(chw, num_output_channels=3)
    results["blur"] = tv.gaussian_blur(chw, [13, 13], [1.7, 1.7])
    for index, (y0, x0, y1, x1, size) in enumerate(CROPS):
        for mode in ("bilinear", "bicubic"):
            results[f"crop_{mode}_{index}"] = tv.resized_crop(
                chw, y0, x0, y1 - y0, x1 - x0, [size, size], tv.InterpolationMode(mode), True
            ).clamp(0, 1)
    arrays = {name: value.permute(1, 2, 0).numpy() for name, value in results.items()}
    bytes_ = np.round(image * 255).astype(np.uint8)
    for sigma in (0.5, 1.0, 2.0):
        blurred = Image.fromarray(bytes_).filter(ImageFilter.GaussianBlur(sigma))
        arrays[f"pil_blur_{sigma}"] = np.asarray(blurred)
    folder = pathlib.Path(__file__).parent
    np.savez_compressed(
        folder / "torchvision_ops.npz", image=image, crops=np.array(CROPS), **arrays
    )


if __name__ == "__main__":
    main()
