"""Masks from points: images a minute beside the library's own pipeline, and what data sets cost.

    python benchmarks/mask_generation.py --model facebook/sam2.1-hiera-large \
        --source folder:photos --images 8 --out benchmarks/results/NAME.json
    python benchmarks/mask_generation.py --model random:vit_b --points 8 --images 4 --all-masks
    python benchmarks/mask_generation.py --estimate

Each row runs in a process of its own: `mask_tools`' segmenter `transformers`, several images at a
time, and Hugging Face's pipeline, called for one image after another. Both must find the same
masks; what they find is compared by run lengths. `random:KIND` is a network of that size with
random weights, of which --all-masks keeps every mask. Memory is the process's largest, or the
GPU's.

--estimate counts the FLOPs of encoder and decoder (matrix products and convolutions, no device
needed) and divides by --tflops: what one GPU would take if it computed so much, for networks alone.
Enlarging and coding masks, decoding and writing come on top, beside the network or after it.
"""

import argparse
import functools
import json
import multiprocessing
import pathlib
import resource
import tempfile
import time
from typing import Any

import torch
import transformers as hf
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from jaxssl.data import open_source
from jaxssl.data.rle import encode_mask
from jaxssl.terminal import format_table
from jaxssl.training.workdir import environment
from mask_tools.segmenters.hugging_face import Transformers

# Of SAM's three image encoders: width, layers, heads, global attention (arXiv 2304.02643).
VITS = {
    "vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": (1280, 32, 16, (7, 15, 23, 31)),
}
# Of SAM 2's: width, blocks, windows, global attention (arXiv 2408.00714, released configs).
HIERAS = {
    "hiera_tiny": (96, (1, 2, 7, 2), (8, 4, 14, 7), (5, 7, 9)),
    "hiera_base_plus": (112, (2, 3, 16, 3), (8, 4, 14, 7), (12, 16, 20)),
    "hiera_large": (144, (2, 6, 36, 4), (8, 4, 16, 8), (23, 33, 43)),
}
DATA_SETS = {"ADE20K": 20_210, "Cityscapes": 2_975, "COCO": 118_287}  # training images
SIDE, POINTS = 1024, 32  # pixels of the input; points a side


def network(kind: str) -> Any:
    """SAM or SAM 2 with random weights."""
    if kind in VITS:
        width, layers, heads, everywhere = VITS[kind]
        vit = hf.SamVisionConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            global_attn_indexes=list(everywhere),
            mlp_dim=4 * width,
        )
        return hf.SamModel(hf.SamConfig(vision_config=vit))
    width, blocks, windows, everywhere = HIERAS[kind]
    heads = 1 if kind == "hiera_tiny" else 2
    widths = [width * 2**i for i in range(4)]
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        blocks_per_stage=list(blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**i for i in range(4)],
        window_size_per_stage=list(windows),
        global_attention_blocks=list(everywhere),
        window_positional_embedding_background_size=[7, 7] if heads == 1 else [14, 14],
    )
    vision = hf.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    return hf.Sam2Model(hf.Sam2Config(vision_config=vision))


def save_random(kind: str, folder: str) -> None:
    """Writes a network as users have it; its masks differ from point to point."""
    torch.manual_seed(0)
    model = network(kind).eval()
    for weight in model.mask_decoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    processor = hf.Sam2ImageProcessor(size=square)
    if kind in VITS:
        processor = hf.SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square)
    processor.save_pretrained(folder)


def ours(args: argparse.Namespace, examples: list[Any], thresholds: dict[str, float]) -> Any:
    """The masks of each image."""
    segmenter = Transformers(
        model=args.folder,
        points_per_side=args.points,
        images_per_batch=args.batch,
        library_points=True,
        precision="float32",
        **thresholds,
    )
    return [
        [region.rle for region in found]
        for start in range(0, len(examples), args.batch)
        for found in segmenter.segment_all(examples[start : start + args.batch])
    ]


@functools.cache
def pipeline(folder: str) -> Any:
    """Hugging Face's, loaded once."""
    device = 0 if torch.cuda.is_available() else -1
    return hf.pipeline("mask-generation", model=folder, device=device)


def library(args: argparse.Namespace, examples: list[Any], thresholds: dict[str, float]) -> Any:
    """The same by Hugging Face's pipeline, one image at a time."""
    generate = pipeline(args.folder)
    size = {"points_per_batch": 64, "points_per_crop": args.points}
    images = [Image.fromarray(example.image) for example in examples]
    found = [generate(image, **size, **thresholds)["masks"] for image in images]
    return [[encode_mask(mask.cpu().numpy()) for mask in map(torch.as_tensor, m)] for m in found]


def measured(row: str, args: argparse.Namespace) -> tuple[dict[str, float], Any]:
    """Images a minute by the clock and by the processor, largest memory, and the masks."""
    source = open_source(args.source)
    examples = [source[i] for i in range(args.images)]
    thresholds = {}
    if args.all_masks:
        thresholds = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    function = {"mask_tools": ours, "library": library}[row]
    function(args, examples[:1], thresholds)  # loads the network
    start, used = time.perf_counter(), time.process_time()
    found = function(args, examples, thresholds)
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() / 2**20
    return {
        "images_a_minute": 60 * args.images / elapsed,
        "images_a_cpu_minute": 60 * args.images / used,
        "peak_mib": memory,
        "masks": sum(map(len, found)),
    }, found


def compare(args: argparse.Namespace) -> None:
    """Prints both rows and whether their masks are the same."""
    with tempfile.TemporaryDirectory() as folder:
        args.folder = args.model
        if args.model.startswith("random:"):
            args.folder = folder
            save_random(args.model.partition(":")[2], folder)
        rows, masks = {}, {}
        for row in ("mask_tools", "library"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows[row], masks[row] = pool.apply(measured, (row, args))
    same = [set(a) & set(b) for a, b in zip(*masks.values(), strict=True)]
    share = sum(map(len, same)) / max(1, sum(len(set(m)) for m in masks["library"]))
    head = ["", *next(iter(rows.values()))]
    table = [[row, *(f"{v:.3g}" for v in found.values())] for row, found in rows.items()]
    print(format_table([head, *table]))
    print(f"{100 * share:.2f} % of the library's masks are found to the pixel")
    if args.out:
        settings = {k: str(v) for k, v in vars(args).items() if k != "folder"}
        content = {"settings": settings, "environment": environment(), "rows": rows, "same": share}
        args.out.write_text(json.dumps(content, indent=2) + "\n")


def count(kind: str) -> tuple[float, float]:
    """FLOPs of the encoder for an image and of the decoder for 1,024 points; no device computes."""
    with torch.device("meta"), torch.inference_mode():
        model = network(kind).eval()
        with FlopCounterMode(display=False) as encoder:
            embeddings = model.get_image_embeddings(torch.zeros(1, 3, SIDE, SIDE))
        points, labels = torch.zeros(1, 64, 1, 2), torch.ones(1, 64, 1, dtype=torch.int64)
        with FlopCounterMode(display=False) as decoder:
            model(input_points=points, input_labels=labels, image_embeddings=embeddings)
    return encoder.get_total_flops(), decoder.get_total_flops() * POINTS**2 / 64


def estimate(tflops: float) -> None:
    """Prints what networks alone would take, by the count."""
    head = ["", "encoder: TFLOP", "decoder: TFLOP", *(f"{name}: hours" for name in DATA_SETS)]
    rows = []
    for kind in (*VITS, *HIERAS):
        flops = count(kind)
        hours = [images * sum(flops) / tflops / 1e12 / 3600 for images in DATA_SETS.values()]
        rows.append([kind, *(f"{f / 1e12:.2f}" for f in flops), *(f"{h:.2f}" for h in hours)])
    print(format_table([head, *rows]))
    print(f"estimates: one GPU at {tflops:g} TFLOP/s, {SIDE} x {SIDE} pixels, {POINTS**2} points")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a folder, a name on the hub, or random:vit_b")
    parser.add_argument("--source", default="scenes:100")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--points", type=int, default=POINTS, help="a side")
    parser.add_argument("--batch", type=int, default=4, help="images at once")
    parser.add_argument("--all-masks", action="store_true", help="keep masks of any score")
    parser.add_argument("--estimate", action="store_true", help="count FLOPs instead")
    parser.add_argument("--tflops", type=float, default=100.0, help="of a GPU, in fact")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    if args.estimate:
        estimate(args.tflops)
    elif args.model:
        compare(args)
    else:
        parser.error("give --model or --estimate")


if __name__ == "__main__":
    main()
