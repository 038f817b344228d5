"""Detection and instance segmentation with a pre-trained ResNet in torchvision's Mask R-CNN.

    python -m jaxssl.export --workdir runs/photos --format torchvision --out resnet50.safetensors
    python benchmarks/detection.py --weights resnet50.safetensors --schedule 12 \
        --train coco/train2017 coco/annotations/instances_train2017.json \
        --test coco/val2017 coco/annotations/instances_val2017.json --out detection.json

DetCon (arXiv 2103.10957, section 4.1): Mask R-CNN on a feature pyramid, all of it trained for 12 or
24 epochs, or with a frozen encoder (Table 4). Annotations are files in COCO's format; of VOC, whose
boxes have no masks, with --boxes, which makes it Faster R-CNN. Average precision is pycocotools'.

DetCon used Cloud TPUs' Mask R-CNN: 1024 x 1024 pixels, other heads, and batch norm over all
devices in them. Here it is torchvision's, one GPU, a shorter side of 800, and batch norm in the
encoder alone, so compare encoders by runs of this script (`--weights random`, another's file), and
with papers only in passing. Stopped, the same command goes on after the last whole epoch.
"""

import argparse
import contextlib
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.transforms.functional import to_tensor

from jaxssl.data import open_source
from jaxssl.data.rle import decode_mask, encode_mask, from_coco
from jaxssl.files import atomic_write
from jaxssl.reporting.published import anchors
from jaxssl.training.workdir import environment

Target = dict[str, Any]
DROPS = (2 / 3, 11 / 12)  # of training, at which the rate falls to a tenth: epochs 8 and 11 of 12
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Instances(torch.utils.data.Dataset):
    """The images of a file in COCO's format that have objects; crowds are left out."""

    def __init__(
        self, images: pathlib.Path, file: pathlib.Path, *, flip: bool = False, boxes: bool = False
    ):
        self.folder, self.flip, self.boxes = images, flip, boxes
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco = COCO(str(file))
        self.ids = [i for i in sorted(self.coco.imgs) if self._objects(i)]

    def _objects(self, key: int) -> list[dict[str, Any]]:
        objects = self.coco.loadAnns(self.coco.getAnnIds(key, iscrowd=False))
        return [o for o in objects if min(o["bbox"][2:]) > 0]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, n: int) -> tuple[torch.Tensor, Target]:
        key = self.ids[n]
        image = to_tensor(Image.open(self.folder / self.coco.imgs[key]["file_name"]).convert("RGB"))
        objects = self._objects(key)
        boxes = torch.tensor([o["bbox"] for o in objects], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        target: Target = {"boxes": boxes, "id": key}
        target["labels"] = torch.tensor([o["category_id"] for o in objects])
        if not self.boxes:
            size = image.shape[1], image.shape[2]
            masks = [decode_mask(from_coco(o["segmentation"], size), size) for o in objects]
            target["masks"] = torch.tensor(np.stack(masks)).to(torch.uint8)
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
            boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
            target |= {"masks": target["masks"].flip(-1)} if not self.boxes else {}
        return image, target


def build(
    encoder: str, weights: str, categories: int, *, frozen: bool, boxes: bool, **smaller: Any
) -> torch.nn.Module:
    """The detector on an encoder with the weights of a file, or `random` ones.

    Args:
      encoder: a ResNet of torchvision's, such as resnet50.
      weights: of jaxssl.export --format torchvision.
      categories: the highest number of one.
      frozen: whether the encoder stays as it is.
      boxes: whether there are no masks.
      **smaller: options of torchvision's detector; `channels` of the pyramid.
    """
    body = torchvision.models.get_model(encoder)
    if weights != "random":
        given, own = load_file(weights), body.state_dict()
        needed = {k: v for k, v in own.items() if not k.startswith("fc.") and v.ndim}
        if wrong := [k for k, v in needed.items() if k not in given or given[k].shape != v.shape]:
            raise SystemExit(f"{weights} is no {encoder}: see {wrong[0]}")
        body.load_state_dict({k: given[k] for k in needed}, strict=False)
    body.requires_grad_(not frozen)
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    widths = [body.fc.in_features // 2 ** (3 - i) for i in range(4)]
    backbone = BackboneWithFPN(body, layers, widths, smaller.pop("channels", 256))
    kind = FasterRCNN if boxes else MaskRCNN
    return kind(backbone, 1 + categories, **smaller).to(DEVICE)


def fit(
    model: torch.nn.Module,
    data: Instances,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    workers: int = 0,
    state: pathlib.Path | None = None,
    settings: str = "",
) -> Iterator[float]:
    """Trains by SGD; yields the sum of the losses of each step.

    Args:
      model: of `build`.
      data: to learn from.
      epochs: how often to go through it.
      batch_size: images a step.
      lr: the learning rate after a warm-up of 500 steps.
      workers: processes that read images.
      state: a file to continue from, and to save in after each epoch; None: neither.
      settings: what a run that is continued must have in common with this one.
    """
    loader = torch.utils.data.DataLoader(
        data, batch_size, shuffle=True, drop_last=True, num_workers=workers, collate_fn=list
    )
    steps = epochs * len(loader)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr, momentum=0.9, weight_decay=1e-4)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=min(500, steps // 8))
    drops = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(at * steps) for at in DROPS])
    parts = {"model": model, "optimizer": optimizer, "warm_up": warm_up, "drops": drops}
    done = restore(state, parts, settings) if state and state.exists() else 0
    for epoch in range(done, epochs):
        torch.manual_seed(epoch)
        model.train()
        # Of a frozen encoder the batch norms stay, too; others learn.
        body = model.backbone.body
        body.train(any(p.requires_grad for p in body.parameters()))
        for pairs in loader:
            images = [image.to(DEVICE) for image, _ in pairs]
            targets = [{k: v.to(DEVICE) for k, v in t.items() if k != "id"} for _, t in pairs]
            loss = sum(model(images, targets).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 10.0)
            for part in (optimizer, warm_up, drops):
                part.step()
            yield loss.item()
        if state:
            new = {name: part.state_dict() for name, part in parts.items()}
            with atomic_write(state) as file:
                torch.save(new | {"epochs": epoch + 1, "settings": settings}, file)


def restore(state: pathlib.Path, parts: dict[str, Any], settings: str) -> int:
    """Sets the parts of a training to what is saved of it; how many epochs are done."""
    saved = torch.load(state, map_location=DEVICE, weights_only=True)
    if saved["settings"] != settings:
        raise SystemExit(f"{state} is of a run with other settings: remove it, or change --out")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    done: int = saved["epochs"]
    return done


@torch.inference_mode()
def detect(
    model: torch.nn.Module, data: Instances
) -> Iterator[tuple[torch.Tensor, Target, Target]]:
    """Each image, what is annotated and what is found in it."""
    model.eval()
    for image, target in (data[n] for n in range(len(data))):
        yield image, target, {k: v.cpu() for k, v in model([image.to(DEVICE)])[0].items()}


def as_results(target: Target, found: Target) -> list[dict[str, Any]]:
    """What is found in an image, as COCO's file of results has it."""
    results = []
    for i, (x0, y0, x1, y1) in enumerate(found["boxes"].tolist()):
        what = {"image_id": target["id"], "category_id": found["labels"][i].item()}
        what |= {"score": found["scores"][i].item(), "bbox": [x0, y0, x1 - x0, y1 - y0]}
        if "masks" in found:
            mask = (found["masks"][i, 0] > 0.5).numpy()
            what["segmentation"] = {"size": [*mask.shape], "counts": encode_mask(mask)}
        results.append(what)
    return results


def average_precision(data: Instances, results: list[dict[str, Any]]) -> dict[str, float]:
    """AP over overlaps of 0.5 to 0.95, and at 0.5 and 0.75, of boxes and of masks."""
    found = {}
    for name, kind in {"box": "bbox", "mask": "segm"}.items():
        if kind == "segm" and data.boxes:
            continue
        stats = [0.0, 0.0, 0.0]
        if results:
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation = COCOeval(data.coco, data.coco.loadRes(results), kind)
                evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
            stats = evaluation.stats[:3].tolist()
        found |= dict(zip((f"{name}_ap", f"{name}_ap50", f"{name}_ap75"), stats, strict=True))
    return found


def write_scenes(folder: pathlib.Path, count: int, part: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Synthetic scenes as images and a file of instances of one category, in COCO's format."""
    source, images, objects = open_source(f"scenes:{count}", part), [], []
    (folder / part).mkdir(parents=True, exist_ok=True)
    for i in range(len(source)):
        image, regions = source[i].image, source[i].regions
        Image.fromarray(image).save(folder / part / f"{i:05}.png")
        height, width = image.shape[:2]
        images.append({"id": i, "file_name": f"{i:05}.png", "height": height, "width": width})
        for r, (y0, x0, y1, x1) in enumerate(regions.box.tolist()):
            mask = {"size": [height, width], "counts": regions.rle[r].decode()}
            where = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(regions.area[r])}
            what = {"id": len(objects) + 1, "image_id": i, "category_id": 1, "iscrowd": 0}
            objects.append(what | where | {"segmentation": mask})
    content = {"images": images, "annotations": objects}
    file = folder / f"instances_{part}.json"
    file.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "object"}]}))
    return folder / part, file


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--encoder", default="resnet50", help="of torchvision")
    add("--weights", required=True, help="of jaxssl.export --format torchvision, or random")
    add("--train", nargs=2, type=pathlib.Path, required=True, metavar=("IMAGES", "FILE.json"))
    add("--test", nargs=2, type=pathlib.Path, required=True, metavar=("IMAGES", "FILE.json"))
    add("--schedule", type=int, default=12, help="epochs: DetCon's are 12 and 24")
    add("--frozen", action="store_true", help="train all but the encoder")
    add("--boxes", action="store_true", help="no masks: Faster R-CNN, for VOC")
    add("--batch-size", type=int, default=16)
    add("--lr", type=float, default=0.02)
    add("--shorter", type=int, default=800, help="side of images, pixels")
    add("--longer", type=int, default=1333, help="at most")
    add("--workers", type=int, default=8)
    add("--seed", type=int, default=0)
    add("--out", type=pathlib.Path, default=pathlib.Path("detection.json"))
    return parser.parse_args(words)


def main(words: list[str] | None = None, **smaller: Any) -> dict[str, float]:
    args = parse(words)
    torch.manual_seed(args.seed)
    train = Instances(*args.train, flip=True, boxes=args.boxes)
    test = Instances(*args.test, boxes=args.boxes)
    sizes = {"min_size": args.shorter, "max_size": args.longer}
    options = {"frozen": args.frozen, "boxes": args.boxes} | sizes | smaller
    model = build(args.encoder, args.weights, max(train.coco.cats), **options)
    settings = {k: str(v) for k, v in vars(args).items()}
    how = {"epochs": args.schedule, "batch_size": args.batch_size, "lr": args.lr}
    how |= {"workers": args.workers, "state": args.out.with_suffix(".state")}
    how |= {"settings": json.dumps(settings)}
    per_epoch = max(1, len(train) // args.batch_size)
    for number, loss in enumerate(fit(model, train, **how), start=1):
        if number % min(50, per_epoch) == 0:
            print(f"{number} steps, loss {loss:.3f}", flush=True)
    results = [one for _, target, found in detect(model, test) for one in as_results(target, found)]
    precision = average_precision(test, results)
    content = {"settings": settings, "environment": environment(), "results": precision}
    with atomic_write(args.out) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
    for name, value in precision.items():
        print(f"{name} {100 * value:.1f}")
        for line in anchors(str(args.test[1]), f"detection_{'frozen_' * args.frozen}{name}"):
            print(f"  compare {line}")
    return precision


if __name__ == "__main__":
    main()
