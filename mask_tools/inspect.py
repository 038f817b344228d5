"""Shows the regions in records, in numbers and in a picture; compares several folders of records.

example:

    python -m mask_tools.inspect data/photos_fh --preview preview.png
    python -m mask_tools.inspect data/bsds_fh data/bsds_sam --annotations bsds:data/BSDS500/labels
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from jaxssl.errors import UserError
from jaxssl.files import naming
from jaxssl.terminal import Parser, one_line_errors, positive, records_folder, whole_numbers
from mask_tools.record_preview import draw_preview
from mask_tools.region_report import inspect_regions, side_by_side
from mask_tools.region_statistics import MIN_AREA

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m mask_tools.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "folders",
        type=records_folder,
        nargs="+",
        metavar="DIR",
        help="records written by mask_tools.export; several are compared side by side",
    )
    add("--split", help="the split to look at (default: the first)")
    add(
        "--preview",
        type=pathlib.Path,
        metavar="FILE.png",
        help="draw some images with their regions, and with views cropped as in training",
    )
    add(
        "--config",
        default="",
        metavar="FILE.py[:VARIANT]",
        help="whose views to draw (default: those of jaxssl's defaults, by region_crop)",
    )
    add(
        "--min-area",
        type=positive,
        metavar="PIXELS",
        help="area from which on the largest region of an object is used to crop views "
        f"(default: {MIN_AREA}; for the preview, the config's)",
    )
    add(
        "--annotations",
        metavar="FORMAT[:PATH]",
        help="compare the regions with these annotations, named as by --format and --path of "
        "mask_tools.export --segmenter annotation; maps of classes are divided into connected "
        "parts (default: source, the label maps in the records, if there are any)",
    )
    add(
        "--ignore",
        type=whole_numbers,
        default=(),
        metavar="VALUE,VALUE",
        help="values of those annotations' label maps that are no region (default: as by --ignore "
        "of mask_tools.export, where that made regions of such maps)",
    )
    add("--verify", action="store_true", help="check files, checksums, boxes and areas first")
    return parser.parse_intermixed_args(argv)  # options may stand between folders


def _check(options: argparse.Namespace) -> None:
    """Raises `UserError` where options do not go together."""
    if options.preview and options.preview.suffix.lower() not in _PICTURES:
        raise UserError(f"--preview {options.preview}: give a name in {', '.join(_PICTURES)}")
    if options.preview and not options.preview.parent.is_dir():
        raise UserError(f"--preview {options.preview}: there is no folder {options.preview.parent}")
    if options.preview and len(options.folders) > 1:
        raise UserError("--preview draws the regions of one folder; give one DIR")
    if options.config and not options.preview:
        raise UserError("--config says which views --preview draws; give --preview FILE.png, too")
    if options.config and not pathlib.Path(options.config.partition(":")[0]).is_file():
        raise UserError(f"--config {options.config}: there is no such file")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    with one_line_errors("interrupted; nothing was written") as status:
        options = _parse(argv)
        _check(options)
        reports = [
            inspect_regions(
                folder,
                split=options.split,
                min_area=options.min_area or MIN_AREA,
                annotations=options.annotations,
                ignore=options.ignore,
                verify=options.verify,
            )
            for folder in options.folders
        ]
        print(side_by_side(reports) if len(reports) > 1 else reports[0])
        if options.verify:
            count = sum(report.statistics.images for report in reports)
            print(f"verified: checksums, boxes and areas of {count} images are right")
        for report in reports:
            if warning := report.statistics.warning:
                print(warning, file=sys.stderr)
        if options.preview:
            drawn = draw_preview(
                options.folders[0],
                split=options.split,
                config=options.config,
                min_area=options.min_area,
            )
            with naming(options.preview):
                drawn.save(options.preview)
            print(f"preview: {options.preview}")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
