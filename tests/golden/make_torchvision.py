"""Writes torchvision.npz: what torchvision's ResNet-18 and -50 make of random images and weights.

pip install torch torchvision numpy && python tests/golden/make_torchvision.py

Weights and images are not stored: `draw_weights` and `draw_images` draw them again, with numpy
alone, so the test that compares against these numbers imports them from here.
"""

import pathlib

import numpy as np

TRACKED = ("bn1", "layer2.0.downsample.1", "layer4.1.bn2")  # batch norms to follow in training


def draw_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random parameters and running statistics, in order of their names in torch: f32 each."""
    rng = np.random.default_rng(0)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if len(shape) == 4:  # a convolution: out, in, height, width
            scale = np.float32(np.sqrt(2 / (shape[0] * shape[2] * shape[3])))
            weights[name] = scale * rng.standard_normal(shape, np.float32)
        elif name.endswith("running_var"):
            weights[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        elif name.endswith("weight"):  # of a batch norm: below 1, or deep features grow huge
            weights[name] = rng.uniform(0.5, 1.0, shape).astype(np.float32)
        else:  # bias, running_mean
            weights[name] = rng.normal(0, 0.1, shape).astype(np.float32)
    return weights


def draw_images(height: int, width: int) -> np.ndarray:
    """Two normalized images: f32[2, height, width, 3]."""
    return np.random.default_rng(1).standard_normal((2, height, width, 3), np.float32)


def main() -> None:
    import torch
    import torchvision

    def run(net: torch.nn.Module, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        images = torch.from_numpy(draw_images(height, width)).permute(0, 3, 1, 2).double()
        grids = []
        hook = net.layer4.register_forward_hook(lambda module, args, grid: grids.append(grid))
        with torch.no_grad():
            pooled = net(images)
        hook.remove()
        return grids[0].permute(0, 2, 3, 1).numpy(), pooled.numpy()

    results = {}
    for depth in (18, 50):
        net = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        net.fc = torch.nn.Identity()
        shapes = {k: tuple(v.shape) for k, v in net.state_dict().items() if v.ndim}
        weights = {k: torch.from_numpy(v) for k, v in draw_weights(shapes).items()}
        net.load_state_dict(weights, strict=False)
        net.double().eval()  # numbers to compare float32 with, without torch's own rounding
        results[f"{depth}/grid"], results[f"{depth}/pooled"] = run(net, 64, 64)
        if depth == 18:
            results["18/oblong/grid"], results["18/oblong/pooled"] = run(net, 96, 80)
            net.train()
            results["18/train/grid"], results["18/train/pooled"] = run(net, 96, 80)
            for name, value in net.state_dict().items():
                if name.rpartition(".")[0] in TRACKED and "running" in name:
                    results[f"18/train/{name}"] = value.numpy()
    results = {name: array.astype(np.float32) for name, array in results.items()}
    for name, array in results.items():
        print(f"{name:45s} {array.shape!s:18s} largest {abs(array).max():.3f}")
    np.savez_compressed(pathlib.Path(__file__).parent / "torchvision.npz", **results)


if __name__ == "__main__":
    main()
