"""The page: which sections there are, in which order, and what is left out and why."""

import dataclasses
import logging
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import numpy as np

from jaxssl.errors import UserError
from jaxssl.reporting import curves, pictures, tables
from jaxssl.reporting.markup import Markup, element, figure, join, section, titled
from jaxssl.reporting.run_arrays import RunArrays, project
from jaxssl.reporting.runs import Group, spell

log = logging.getLogger("jaxssl")
STYLE = (pathlib.Path(__file__).parent / "style.css").read_text()
MAX_BYTES = 9_000_000
IMAGES, QUERIES, NEAREST, HEATED, MASKS = 6, 6, 7, 6, 6


def make_page(groups: Sequence[Group], *, title: str, map_by: str) -> str:
    """The whole page, self-contained: nothing is fetched when it is looked at."""
    charts, more = curves.main_charts(groups), curves.more_charts(groups)
    results = tables.result_tables(groups)
    nothing = element(
        "p", "No evaluation yet: python -m jaxssl.evaluate --workdir DIR", class_="note"
    )
    folded = element("details", element("summary", "Speed and optimizer"), _grid(more))
    parts = [
        section("Summary", None, element("div", *map(card, groups), class_="cards")),
        section(
            "Curves",
            "Each line is one run, from metrics.jsonl.",
            curves.legend(groups),
            _grid(charts) if charts else element("p", "Nothing measured yet.", class_="note"),
            folded if more else None,
        ),
        section(
            "Results",
            "Mean ± standard deviation over training seeds (n runs). A paper's number stands where "
            "method and data are those of its table; other settings may differ.",
            *(results or [nothing]),
        ),
        section("Configuration", _configuration(groups), *tables.config_tables(groups)),
        *picture_sections(groups, map_by),
        section("Machine", "From environment.json.", tables.machine_table(groups)),
    ]
    return render(title, _lead(groups), parts)


def render(title: str, lead: str, parts: Sequence[Markup]) -> str:
    """A document of sections, with a bar that leads to them."""
    names = [part.partition("<h2>")[2].partition("</h2>")[0] for part in parts]
    links = [
        element("li", element("a", Markup(name), href=f"#{name.lower().replace(' ', '-')}"))
        for name in names
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    body = element(
        "body",
        element("header", element("h1", title), element("p", lead, class_="lead"), class_="top"),
        element("nav", element("ul", *links), aria_label="sections"),
        element("main", *parts),
        element(
            "footer", "Made by python -m jaxssl.report; nothing here is loaded from elsewhere."
        ),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def _lead(groups: Sequence[Group]) -> str:
    runs = sum(len(group.runs) for group in groups)
    if runs == 1:
        config = groups[0].first.config
        return f"{config.method.name} with {config.sampler.name} on {config.data.source}"
    many = f"{len(groups)} configurations" if len(groups) > 1 else "one configuration"
    return f"{runs} runs of {many}; runs that differ only in their seed are taken together"


def _configuration(groups: Sequence[Group]) -> str:
    if len(groups) == 1:
        return "What differs from the defaults of jaxssl."
    return "What differs between the runs, apart from the seed."


def card(group: Group) -> Markup:
    """What a group is and where it got to."""
    run, config = group.first, group.first.config
    facts = {
        "method": f"{config.method.name} · {config.sampler.name}",
        "encoder": f"{config.encoder.name} · {config.optim.name}",
        "data": config.data.source,
        "epochs": f"{run.epochs_done:g} of {config.epochs}",
        "seeds": ", ".join(str(r.config.seed) for r in group.runs),
        "images/s": f"{speeds[-1][1]:,.0f}" if (speeds := run.curve("images_per_sec")) else None,
    }
    listed = [join(element("dt", k), element("dd", v)) for k, v in facts.items() if v]
    return element(
        "article",
        element("h3", group.name),
        _headline(group),
        element("dl", *listed),
        class_="card",
    )


def _headline(group: Group) -> Markup:
    """The one number of a group: its last kNN, or else its loss."""
    for key in dict.fromkeys(k for run in group.runs for line in run.lines for k in line):
        if key.startswith("eval/") and key.endswith("_top1"):
            ends = [points[-1][1] for run in group.runs if (points := run.curve(key))]
            _, dataset, name = key.split("/")
            told = f"{spell(name)} on {dataset}"
            return element(
                "div",
                tables.spread(name, ends),
                element("small", told),
                class_="big",
            )
    losses = [points[-1][1] for run in group.runs if (points := run.curve("loss"))]
    if not losses:
        return element("p", "Nothing measured yet.", class_="note")
    return element("div", tables.spread("loss", losses), element("small", "loss"), class_="big")


def _grid(figures: Sequence[Markup]) -> Markup:
    return element("div", *figures, class_="grid")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A section of pictures, one set of them for each group."""

    title: str
    about: str
    draw: Callable[[RunArrays, str], Markup | None]
    narrow: bool = False  # groups side by side


def picture_sections(groups: Sequence[Group], map_by: str) -> list[Markup]:
    """Sections with a part for each group: pictures of its first run, as far as they fit."""
    spent, sections = 0, []
    looks = [RunArrays(group.first) for group in groups]
    for kind in KINDS:
        parts = []
        for group, look in zip(groups, looks, strict=True):
            heading = element("h3", group.name) if len(groups) > 1 else None
            content = attempt(kind, look, map_by) if spent < MAX_BYTES else _no_room(group)
            if content:
                spent += len(content)
                parts.append(element("div", heading, content))
        if parts:
            beside = "parts beside" if kind.narrow else "parts"
            sections.append(section(kind.title, kind.about, element("div", *parts, class_=beside)))
    return sections


def _no_room(group: Group) -> Markup:
    return element("p", f"Left out for {group.name}: the page would be too large.", class_="note")


def attempt(kind: Kind, looks: RunArrays, map_by: str) -> Markup | None:
    """The pictures, or a note that says why there are none."""
    try:
        return kind.draw(looks, map_by)
    except (UserError, OSError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        log.warning("%s: no %s: %s", looks.run.name, kind.title.lower(), reason)
        return element("p", f"Left out: {reason}", class_="note")


def draw_views(looks: RunArrays, map_by: str) -> Markup:
    return pictures.view_rows(looks.cut_views(IMAGES), looks.source)


def draw_heat(looks: RunArrays, map_by: str) -> Markup:
    return _grid(pictures.heat_pictures(*looks.heat_maps(HEATED)))


def draw_neighbours(looks: RunArrays, map_by: str) -> Markup:
    rows = pictures.neighbour_rows(looks.embedded, QUERIES, NEAREST)
    return figure(pictures.captions(looks.embedded.classes), rows)


def draw_map(looks: RunArrays, map_by: str) -> Markup:
    embedded = looks.embedded
    places = project(embedded.features, map_by)
    what = "First two principal components" if map_by == "pca" else "t-SNE"
    caption = f"{what} of the features of {len(places)} images of {embedded.name}, at step"
    return figure(f"{caption} {looks.step}.", pictures.scatter(places, embedded))


def draw_confusions(looks: RunArrays, map_by: str) -> Markup | None:
    """The last one of each task and data set."""
    found = {
        (entry["task"], entry["dataset"]): entry["details"]
        for entry in looks.run.entries
        if "confusion" in entry.get("details", {})
    }
    figures = [
        titled(
            f"{spell(task)} on {dataset}", pictures.confusion(details), pictures.per_class(details)
        )
        for (task, dataset), details in found.items()
    ]
    return element("div", *figures, class_="parts beside") if figures else None


def draw_masks(looks: RunArrays, map_by: str) -> Markup | None:
    figures = []
    for path in sorted((looks.run.workdir / "predictions").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            rows = pictures.mask_rows(dict(arrays), MASKS)
            figures.append(titled(path.stem, rows))
    return element("div", *figures, class_="parts") if figures else None


KINDS = (
    Kind("Views", "Training images with their regions, the rectangles that views are cut from, and "
         "these views with their augmentation, as in the first epoch.", draw_views),
    Kind("Neighbours", "What the frozen encoder takes for alike.", draw_neighbours),
    Kind("Map", "Images near each other have features near each other.", draw_map, narrow=True),
    Kind("Heat maps", "How much the encoder makes of each place: its features summed over the "
         "channels, bright is much.", draw_heat),
    Kind("Confusion", "Rows are true classes, columns predicted ones; per cent of the row. Blue is "
         "right, orange wrong.", draw_confusions),
    Kind("Masks", "Labels and what was predicted; black has no label.", draw_masks),
)  # fmt: skip
