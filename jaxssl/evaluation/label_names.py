"""Names of data sets, and what the values of label maps mean in those that are known."""

import logging
import os

from jaxssl.data import Source
from jaxssl.data.records import Info, Records, read_info
from jaxssl.data.synthetic.shapes import CLASS_NAMES
from jaxssl.evaluation.dense import pets_metrics

log = logging.getLogger("jaxssl")

# Data sets by name: the class of each label value, "" for those that are no class.
KNOWN: dict[str, dict[int, str]] = {
    "scenes": dict(enumerate(("ground", *CLASS_NAMES))),
    "oxford_iiit_pet": dict(enumerate(pets_metrics.CLASSES, start=1)),
    "cityscapes": {
        **dict.fromkeys(range(34), ""),
        **{7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole"},
        **{19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky"},
        **{24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train"},
        **{32: "motorcycle", 33: "bicycle"},
    },
}


def data_set_name(spec: str) -> str:
    """`folder:data/pets` is `pets`, `objects:2000` is `objects`, `tfds:stl10/train` is `stl10`."""
    scheme, _, rest = spec.partition(":")
    if scheme in ("scenes", "objects"):
        return scheme
    if scheme == "tfds":
        return rest.partition("/")[0]
    place = os.path.abspath(os.path.expanduser(rest.partition("?labels=")[0]))  # also of "."
    return os.path.basename(place) or scheme


def known_labels(source: Source, values: set[int]) -> dict[int, str]:
    """The entry of `KNOWN` for a source that has these label values; {} if it has none.

    Records are what they were made from. A folder of that name may hold other maps: Cityscapes'
    trainIds count its classes from 0, so that the largest is below their number.
    """
    spec = info.source if (info := _info_of(source)) else source.spec
    known = KNOWN.get(data_set_name(spec), {})
    is_so = values <= set(known) and max(values, default=-1) >= len(set(known.values()) - {""})
    return known if is_so or spec.startswith(("scenes:", "tfds:")) else {}


def exported_void(source: Source) -> tuple[int, ...]:
    """The label values of no class that the export of records was told; () of other sources."""
    void = info.void if (info := _info_of(source)) else ()
    if void:
        log.info(
            "%s: label values %s are no class, as --ignore said when it was exported; "
            "--ignore-labels names others",
            *(source.spec, ", ".join(map(str, void))),
        )
    return void


def _info_of(source: Source) -> Info | None:
    is_made = isinstance(source, Records)
    return read_info(source.spec.removeprefix("records:")) if is_made else None
