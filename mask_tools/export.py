"""Segments a data set once: writes its images with their regions as records.

python -m mask_tools.export --source folder:photos --segmenter fh --out data/photos_fh
"""

import sys
from collections.abc import Sequence

from jaxssl.terminal import one_line_errors
from mask_tools.cli import build_segmenter, parse_export
from mask_tools.dataset_export import segment_dataset


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    with one_line_errors() as status:
        options = parse_export(argv)
        result = segment_dataset(
            options.source,
            build_segmenter(options),
            options.out,
            split=options.split,
            part=options.part,
            shards=options.shards,
            max_side=options.max_side,
            max_broken=options.max_broken,
            workers=options.workers,
            num_shards=options.num_shards,
            shard_index=options.shard_index,
            ray=options.ray,
        )
        print(result)
        if result.is_complete:
            print(
                "\nNext, look at the regions, then learn from them:\n"
                f"  python -m mask_tools.inspect {result.folder} --preview preview.png\n"
                "  python -m jaxssl.train --config configs/samclr_ade20k.py"
                f" --config.data.source=records:{result.folder}"
            )
    return status.code


if __name__ == "__main__":
    sys.exit(main())
