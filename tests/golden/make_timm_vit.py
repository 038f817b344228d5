"""Writes timm_vit.npz: what timm makes of random images and weights of a small Vision Transformer.

pip install timm numpy && python tests/golden/make_timm_vit.py

Weights and images are not stored: `draw_weights` and `draw_images` draw them again, with numpy
alone, so the test that compares against these numbers imports them from here.
"""

import pathlib

import numpy as np

SIZES = {"base": (32, 32), "small": (24, 24), "oblong": (40, 56)}  # height, width, pixels


def draw_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random parameters, in order of their names in timm: f32 each."""
    rng = np.random.default_rng(0)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        scale = 0.5 if len(shape) in (1, 3) else np.prod(shape[1:]) ** -0.5  # features of order 1
        weights[name] = np.float32(scale) * rng.standard_normal(shape, np.float32)
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def draw_images(height: int, width: int) -> np.ndarray:
    """Two normalized images: f32[2, height, width, 3]."""
    return np.random.default_rng(1).standard_normal((2, height, width, 3), np.float32)


def main() -> None:
    import timm
    import torch
    from timm.layers import resample_abs_pos_embed

    def small_vit(size: tuple[int, int]) -> torch.nn.Module:
        return timm.models.VisionTransformer(
            img_size=size, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
        )

    shapes = {name: tuple(p.shape) for name, p in small_vit(SIZES["base"]).state_dict().items()}
    weights = {name: torch.from_numpy(w) for name, w in draw_weights(shapes).items()}
    results = {}
    for case, (height, width) in SIZES.items():
        net = small_vit((height, width))
        # Not smoothed where it shrinks, as in DINO; in float32 whatever it is given.
        resized = resample_abs_pos_embed(
            weights["pos_embed"], [height // 8, width // 8], antialias=False
        )
        net.load_state_dict(weights | {"pos_embed": resized})
        net.double().eval()  # numbers to compare float32 with, without torch's own rounding
        images = torch.from_numpy(draw_images(height, width)).permute(0, 3, 1, 2).double()
        with torch.no_grad():
            results[case] = net.forward_features(images).numpy().astype(np.float32)
        print(f"{case:8s} {results[case].shape!s:12s} largest {abs(results[case]).max():.3f}")
    np.savez_compressed(pathlib.Path(__file__).parent / "timm_vit.npz", **results)


if __name__ == "__main__":
    main()
