"""What `benchmarks/regions.py` compares: studies of arms that differ from the first in one thing.

An arm is a variant of `configs/quickstart.py` and words for `jaxssl.train`. Its seed draws other
scenes, first weights and views; the arms of a study share seeds, so differences are paired. Where
regions come from records, the images are those of seed 0 and the rest depends on the seed.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from PIL import Image

import mask_tools
from jaxssl.data import open_source
from jaxssl.data.source import Example, keys_of
from mask_tools.regions import Region

Words = tuple[str, ...]
Arms = dict[str, Words]

SCENES = "scenes:2000"  # the quickstart's
REGIONS = ("--config.sampler.name=region_crop", "--config.sampler.min_area=64")
METHODS = ("moco", "byol", "simsiam", "dino", "swav", "detcon_s", "detcon_b")
SCALES = ((0.08, 1.0), (0.2, 1.0), (0.6, 1.0))  # SimCLR's, the quickstart's; MoCo's; narrow
LOCAL = ("--config.views.num_local=6", "--config.views.local_size=16")  # SAMCLR's code: 128, 64
TILES = 6  # a side of a mosaic
# Of the area of a photograph: a mean of 5 %, as views of the regions by `FH` have.
SMALL = "--config.views.scale=(0.006,0.1)"
FH = mask_tools.Felzenszwalb(scale=(300.0,), min_size=(1000,))  # of photographs


@functools.cache
def positions(source: str) -> dict[str, int]:
    """The numbers of a source's images, by their keys."""
    return {key: number for number, key in enumerate(keys_of(open_source(source)))}


@dataclasses.dataclass(frozen=True)
class RegionsOfAnother:
    """The regions of an image so many `ahead`: sizes and places of objects, and no object in them.

    Without a segmenter they are the source's own. All images are of one size.
    """

    needs_original_size: ClassVar[bool] = False

    source: str
    ahead: int
    segmenter: mask_tools.segmenters.Segmenter | None = None

    def __call__(self, example: Example) -> list[Region]:
        """The regions that the other image has."""
        numbers = positions(self.source)
        number = (numbers[example.key] + self.ahead) % len(numbers)
        other = open_source(self.source)[number]
        if self.segmenter:
            return self.segmenter(other)
        assert other.regions is not None
        return [Region(rle, other.regions.size) for rle in other.regions.rle]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Where the studies find and put images."""

    folder: pathlib.Path  # for records that are made here
    labeled: pathlib.Path | None = None  # class folders of small images, for mosaics
    photographs: pathlib.Path | None = None
    annotations: pathlib.Path | None = None  # of the photographs, in BSDS500's or CamVid's format
    evaluate: Words = ()  # data sets that photographs and dense encoders are evaluated on
    ignore_labels: str = ""  # of their label maps: values of no class

    def records(self, name: str, source: str, segmenter: mask_tools.segmenters.Segmenter) -> str:
        """A data set of a source's images with other regions; made if it is not there."""
        out = self.folder / name
        print(mask_tools.segment_dataset(source, segmenter, out, workers=0))
        return f"--config.data.source=records:{out}"

    def mosaics(self, count: int = 4000) -> pathlib.Path:
        """Pictures of 6 x 6 images of a labeled folder's train part, drawn at random."""
        if self.labeled is None:
            raise SystemExit(
                "mosaics need --labeled FOLDER, with train/ and test/ of class folders"
            )
        out = self.folder / "mosaics"
        out.mkdir(parents=True, exist_ok=True)
        source, rng = open_source(f"folder:{self.labeled}", "train"), np.random.default_rng(0)
        for number in range(count):
            picked = [source[i].image for i in rng.integers(len(source), size=TILES**2)]
            rows = [np.hstack(picked[i : i + TILES]) for i in range(0, TILES**2, TILES)]
            if not (path := out / f"{number:05d}.png").exists():
                Image.fromarray(np.vstack(rows)).save(path)
        return out


def crops(variant: str = "simclr", *words: str) -> Arms:
    """The method's crops and those of SAMCLR, all else alike."""
    regions = ("samclr", *words) if variant == "simclr" else (variant, *words, *REGIONS)
    return {"random_crop": (variant, *words), "region_crop": regions}


def named(name: str, arms: Arms) -> Arms:
    return {f"{name}, {arm}": words for arm, words in arms.items()}


def by_scale(inputs: Inputs) -> Arms:
    """How large views are, as fractions of the image or of the region."""
    arms: Arms = {}
    for low, high in SCALES:
        change = () if low == 0.08 else (f"--config.views.scale=({low},{high})",)
        arms |= named(f"{low} to {high}", crops("simclr", *change))
    return arms


def by_region(inputs: Inputs) -> Arms:
    """Is it the object, or the smaller crop? All on the same scenes."""
    segmenters = {
        "region_crop, next scene's regions": RegionsOfAnother(SCENES, ahead=1),
        "region_crop, grid of 6 x 6": mask_tools.Grid(6, 6),
        "region_crop, fh": mask_tools.Felzenszwalb(scale=(100.0,), min_size=(64,)),
    }
    arms = {
        name: ("simclr", *REGIONS, inputs.records(f"regions{i}", SCENES, segmenter))
        for i, (name, segmenter) in enumerate(segmenters.items())
    }
    exact = f"--config.data.source=records:{inputs.folder / 'exact'}"
    print(mask_tools.segment_dataset(SCENES, None, inputs.folder / "exact", workers=0))
    first = {
        "random_crop": ("simclr", exact),
        # Of the area of a scene: from the smallest to the largest box that region_crop cuts.
        "random_crop, as large as regions": ("simclr", exact, "--config.views.scale=(0.012,0.07)"),
        "region_crop, exact": ("simclr", exact, *REGIONS),
    }
    return first | arms


def by_expand(inputs: Inputs) -> Arms:
    """How much of what surrounds an object helps."""
    arms = crops()
    return arms | {
        f"region_crop, expand {e}": (*arms["region_crop"], f"--config.sampler.expand={e}")
        for e in (1.3, 2.0, 3.0)
    }


def by_temperature(inputs: Inputs) -> Arms:
    """SimCLR at lightly's default of 0.5 against SAMCLR at 0.07 is what the paper may compare."""
    arms: Arms = {}
    for temperature in (0.07, 0.5):
        for local, words in (("2 views", ()), ("2 + 6 views", LOCAL)):
            change = f"--config.method.temperature={temperature}"
            arms |= named(f"T {temperature}, {local}", crops("simclr", change, *words))
    return arms


def by_optimization(inputs: Inputs) -> Arms:
    """Temperature, clipping and rate; the quickstart has 0.2, 1 and 0.3.

    At 0.07 the loss starts at 7, where that of chance is 4.8.
    """
    arms: Arms = {}
    for temperature, clip in ((0.1, 1.0), (0.2, 0.0), (0.07, 1.0), (0.07, 0.0)):
        words = (f"--config.method.temperature={temperature}", f"--config.optim.clip_norm={clip}")
        arms |= named(f"T {temperature}, clip {clip:g}", crops("simclr", *words))
    slow = ("--config.optim.clip_norm=0", "--config.optim.lr=0.1", "--config.optim.warmup_epochs=4")
    return arms | named("T 0.2, clip 0, lr 0.1", crops("simclr", *slow))


def by_sampler(inputs: Inputs) -> Arms:
    """Other ways to find the object."""
    change = ("--config.sampler.warmup_epochs=8", "--config.sampler.interval_epochs=8")
    contrastive = ("simclr", "--config.sampler.name=contrastive_crop", *change)
    return crops() | {
        "contrastive_crop": contrastive,
        "contrastive_crop, alpha 0.6": (*contrastive, "--config.sampler.alpha=0.6"),
        "region_ccrop": ("simclr", "--config.sampler.name=region_ccrop", REGIONS[1]),
    }


def by_method(inputs: Inputs) -> Arms:
    """Every method with both; SimCLR is the study `quickstart`. SimSiam with loose boxes, too."""
    arms: Arms = {}
    for method in METHODS:
        arms |= named(method, crops(method))
        if method == "simsiam":
            loose = (*arms["simsiam, region_crop"], "--config.sampler.expand=2.0")
            arms["simsiam, region_crop, expand 2"] = loose
    return arms


def single_objects(inputs: Inputs) -> Arms:
    """Images of one object, where the paper's Table 3 has SAMCLR below SimCLR."""
    return crops("simclr", "--config.data.source=objects:2000")


def mosaics(inputs: Inputs) -> Arms:
    """Real pictures, crowded by construction, a region for each."""
    source = f"folder:{inputs.mosaics()}"
    tiles = inputs.records("tiles", source, mask_tools.Grid(TILES, TILES))
    words = (f"--config.eval.datasets=folder:{inputs.labeled}", "--config.epochs=32")
    return crops("simclr", tiles, *words)  # 1,984 steps


def of_photographs(inputs: Inputs) -> tuple[Words, Words]:
    """Training on photographs with regions by `fh`, and SAMCLR's crops of them."""
    if inputs.photographs is None or not inputs.evaluate:
        raise SystemExit("give --photographs FOLDER, to train on, and --evaluate SOURCE ...")
    data = inputs.records("photographs", f"folder:{inputs.photographs}", FH)
    return (data,), (REGIONS[0], "--config.sampler.min_area=1000")


def by_fh(inputs: Inputs, method: str, epochs: int, *change: str) -> Arms:
    """A method on photographs as they are, and with regions by `fh`."""
    data, regions = of_photographs(inputs)
    evaluate = f"--config.eval.datasets={inputs.evaluate}"
    words = (method, *data, evaluate, f"--config.epochs={epochs}")
    words += ("--config.views.recipe=moco_v2", *change)
    return {"random_crop": words, "region_crop, fh": (*words, *regions)}


def photographs(inputs: Inputs, **annotation: object) -> Arms:
    """SimCLR on photographs, with regions by `fh` and, given annotations, by people."""
    # 5,964 steps of BSDS500's 500 images, or of the 468 in CamVid's train and val parts.
    arms = by_fh(inputs, "simclr", 852)
    if inputs.annotations is not None:
        people = mask_tools.Annotation(path=str(inputs.annotations), **annotation)
        data = inputs.records("annotated", f"folder:{inputs.photographs}", people)
        arms["region_crop, people"] = (*arms["region_crop, fh"], data)
    return arms


def photograph_methods(inputs: Inputs) -> Arms:
    """Other methods, without regions of their own, on photographs for a third of those steps."""
    arms: Arms = {}
    for method in METHODS[:5]:
        # The quickstart's queue has room for more keys than CamVid's two parts give in an epoch.
        change = ("--config.method.queue_size=896",) if method == "moco" else ()
        arms |= named(method, by_fh(inputs, method, 284, *change))
    return arms


def streets(inputs: Inputs) -> Arms:
    """Photographs of crowded streets: CamVid, each connected part of a class being a region.

    Is it the object? The control has the regions that `fh` finds in another street. Is it the
    place? Cells of a grid, as large as the boxes of `fh` (a half of them 5 % of the image or less,
    5.5 % their geometric mean), are any place. Or the size? Crops of that size from anywhere have
    neither.
    """
    arms = photographs(inputs, format="semantic", ignore=(11,), components=True)
    source = f"folder:{inputs.photographs}"
    another = RegionsOfAnother(source, ahead=len(open_source(source)) // 2, segmenter=FH)
    data = inputs.records("another", source, another)
    grid = inputs.records("grid", source, mask_tools.Grid(4, 4))
    return arms | {
        "region_crop, fh of another": (*arms["region_crop, fh"], data),
        "region_crop, grid of 4 x 4": (*arms["region_crop, fh"], grid),
        "random_crop, as large as regions": (*arms["random_crop"], SMALL),
    }


def dense(inputs: Inputs) -> Arms:
    """A frozen encoder's grid, by a linear classifier and by retrieval: the claim of DetCon.

    Trained on photographs and asked for label maps of photographs. Crowded scenes tell nothing
    here: two thirds of their pixels are ground and a shape has 3 %, so a cell is called ground
    until its shape is all but certain, and no probe tells the shape of a cell of objects. Small
    crops from anywhere and the cells of a grid are controls, as for `streets`.
    """
    data, regions = of_photographs(inputs)
    grid = inputs.records("grid", f"folder:{inputs.photographs}", mask_tools.Grid(4, 4))
    words = (*data, f"--config.eval.datasets={inputs.evaluate}", "--config.eval.size=0")
    if inputs.ignore_labels:
        words += (f"--config.eval.ignore_labels={inputs.ignore_labels}",)
    words += ("--config.eval.in_context=65536", "--config.views.size=64")
    words += ("--config.views.recipe=moco_v2",)  # colors tell sky, road and trees apart
    words += ("--config.epochs=124", "--config.optim.warmup_epochs=4")  # 992 steps of 567 images
    return {
        "simclr, random_crop": ("simclr", *words),
        "simclr, random_crop, as large as regions": ("simclr", *words, SMALL),
        "simclr, region_crop": ("simclr", *words, *regions),
        "simclr, region_crop, grid of 4 x 4": ("simclr", *words, *regions, grid),
        "detcon_s": ("detcon_s", *words),
        "byol, random_crop": ("byol", *words),
        "detcon_b": ("detcon_b", *words),
        "detcon_b, grid of 4 x 4": ("detcon_b", *words, grid),
    }


STUDIES: dict[str, Callable[[Inputs], Arms]] = {
    "quickstart": lambda inputs: {"simclr": ("simclr",), "samclr": ("samclr",)},
    "scale": by_scale,
    "regions": by_region,
    "expand": by_expand,
    "temperature": by_temperature,
    "optimization": by_optimization,
    "samplers": by_sampler,
    "methods": by_method,
    "single_objects": single_objects,
    "mosaics": mosaics,
    "dense": dense,
    "photographs": lambda inputs: photographs(inputs, format="bsds"),
    "photograph_methods": photograph_methods,
    "streets": streets,
}
