"""COCO's panoptic segments: a JSON file, and a PNG file for each image, whose colors are ids."""

import dataclasses
import pathlib
from collections.abc import Mapping

from jaxssl.data.folder import find_files
from jaxssl.data.label_maps import read_label_map
from jaxssl.data.name_matching import NameIndex
from jaxssl.data.rle import encode_labels
from jaxssl.data.source import Example
from jaxssl.errors import UserError
from mask_tools.coco_json import CocoFile, plain_id, read_listed, segments_of
from mask_tools.json_lists import read_spans
from mask_tools.regions import Region


@dataclasses.dataclass(frozen=True)
class PanopticFile(CocoFile):
    """The segments of a file, and the PNG files that hold their masks."""

    pngs: Mapping[str, str] = dataclasses.field(default_factory=dict)  # by the image's name

    def paths(self, number: int) -> list[str]:
        """The file of an image's masks."""
        return [self.pngs[self.names[number]]]

    def read(self, number: int, example: Example) -> list[Region]:
        """The segments of an image; those that its PNG alone has are at fault, but for 0, void."""
        path = pathlib.Path(self.pngs[self.names[number]])
        labels = read_label_map(path, example.key, ids=True)
        size, masks = (labels.shape[0], labels.shape[1]), encode_labels(labels)
        found: list[Region] = []
        listed = {0}
        begin, end = self.extents[number].tolist()
        for entry in read_spans(self.path, self.spans[begin:end].tolist()):
            segments = segments_of(entry)
            if segments is None:
                name = f"the annotation of image {entry.get('image_id')}"
                return [*found, Region(b"", size, fault="has no list segments_info", name=name)]
            for segment in segments:
                given = plain_id(segment.get("id"))
                value, fault = int(given) if given.isdecimal() else -1, ""
                listed.add(value)
                rle = masks.get(value, b"")
                if self.is_crowd(segment):
                    fault = "is a crowd (iscrowd)"
                elif not rle:
                    fault = "has a mask that covers no pixel"
                found.append(Region(rle, size, fault=fault, name=f"segment {segment.get('id')}"))
        fault = "is in the PNG, and not in the JSON"
        unlisted = [f"segment {value}" for value in masks if value not in listed]
        return found + [Region(b"", size, fault=fault, name=name) for name in unlisted]


def open_panoptic(path: str, *, crowds: bool = False) -> PanopticFile:
    """The segments of a file such as panoptic_train2017.json, things and stuff.

    Their PNG files are in the folder beside it, of the same name without its ending, as in COCO's
    own archives and Cityscapes'.
    """
    listed = read_listed(path)
    opened = listed.open("COCO panoptic", crowds, panoptic=True)
    folder = pathlib.Path(path).with_suffix("")
    if not folder.is_dir():
        raise UserError(f"{path}: there is no folder {folder} with the PNG files of its segments")
    there = list(find_files(folder, (".png",)))
    index = NameIndex(there)
    pngs = {}
    for name, (begin, end) in zip(opened.names, opened.extents.tolist(), strict=True):
        said = listed.files.get(int(listed.order[begin]), "") if end > begin else ""
        candidates = (said, f"{pathlib.PurePath(name).stem}.png")
        found = next((n for file in candidates if file and (n := index.find(file)) is not None), -1)
        if found >= 0:
            pngs[name] = str(folder / there[found])
    if not pngs:
        raise UserError(f"{folder} has no PNG file of an image that {path} lists")
    kept = [number for number, name in enumerate(opened.names) if name in pngs]
    notes = opened.notes
    if len(kept) < len(opened.names):
        notes += (f"{len(opened.names) - len(kept)} images of {path} have no PNG in {folder}",)
    fields = vars(opened) | {
        "names": tuple(opened.names[number] for number in kept),
        "sizes": tuple(opened.sizes[number] for number in kept),
        "extents": opened.extents[kept],
        "notes": notes,
    }
    return PanopticFile(**fields, pngs=pngs)
