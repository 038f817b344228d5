"""One page that shows runs side by side: `python -m jaxssl.report runs/a runs/b`."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from jaxssl.files import write_text
from jaxssl.reporting.page import make_curve, make_page
from jaxssl.reporting.runs import group_runs, read_runs
from jaxssl.terminal import Parser, one_line_errors


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of this command."""
    parser = Parser(
        prog="python -m jaxssl.report",
        description="Writes one self-contained HTML page about one run or several: curves, results "
        "beside the papers', configs, views, nearest neighbors, heat maps. Runs that differ only "
        "in their seed are averaged.",
        epilog="example: python -m jaxssl.report runs/samclr_0 runs/samclr_1 runs/simclr --out "
        "report.html",
        allow_abbrev=False,
    )
    parser.add_argument(
        "workdir",
        type=pathlib.Path,
        nargs="+",
        metavar="DIR",
        help="folder of a run, or of several runs' folders",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FILE",
        help="file to write (default: report.html; of a curve its name, such as knn_top1.svg)",
    )
    parser.add_argument(
        "--curve",
        metavar="KEY",
        help="only the curve of this key of metrics.jsonl, as an SVG file, such as "
        "--curve eval/objects/knn_top1 --out knn.svg",
    )
    parser.add_argument("--title", help="of the page (default: the names of the runs)")
    parser.add_argument(
        "--map",
        choices=("pca", "tsne"),
        default="pca",
        help="how features are drawn in two dimensions: by principal components (default), or by "
        "t-SNE, which needs scikit-learn",
    )
    return parser.parse_intermixed_args(argv)  # options may stand between folders


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line that says what to do."""
    with one_line_errors() as status:
        args = parse_arguments(argv)
        default = f"{args.curve.rpartition('/')[2]}.svg" if args.curve else "report.html"
        out = args.out or pathlib.Path(default)
        out.parent.mkdir(parents=True, exist_ok=True)
        groups = group_runs(read_runs(args.workdir))
        title = args.title or ", ".join(group.name for group in groups)
        if args.curve:
            page = make_curve(groups, args.curve)
        else:
            page = make_page(groups, title=title, map_by=args.map)
        write_text(out, page)
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
