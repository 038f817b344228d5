"""Shows the regions in a folder of records, in numbers and in a picture.

python -m mask_tools.inspect data/photos_fh --preview preview.png
"""

import sys
from collections.abc import Sequence

from jaxssl.terminal import one_line_errors
from mask_tools.cli import parse_inspect
from mask_tools.record_preview import draw_preview
from mask_tools.region_report import inspect_regions
from mask_tools.region_statistics import MIN_AREA


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    with one_line_errors("interrupted; nothing was written") as status:
        options = parse_inspect(argv)
        print(
            inspect_regions(
                options.folder,
                split=options.split,
                min_area=options.min_area or MIN_AREA,
                annotations=options.annotations,
                verify=options.verify,
            )
        )
        if options.preview:
            drawn = draw_preview(
                options.folder,
                split=options.split,
                config=options.config,
                min_area=options.min_area,
            )
            drawn.save(options.preview)
            print(f"Drew some images in {options.preview}")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
