"""The page: its sections in their order, rendered from the templates of this package."""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from jaxssl.checked_files import naming_damage, read_arrays
from jaxssl.errors import UserError
from jaxssl.preview import cut_views
from jaxssl.reporting import curves, pictures, tables
from jaxssl.reporting.run_arrays import RunArrays, project, sample_readable
from jaxssl.reporting.runs import Group, spell

log = logging.getLogger("jaxssl")
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
MAX_BYTES = 9_000_000
IMAGES, QUERIES, NEAREST, HEATED, MASKS = 6, 6, 7, 6, 6


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page under a heading; `#anchor` leads to it."""

    title: str
    about: str
    content: Markup

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


def make_page(groups: Sequence[Group], *, title: str, map_by: str) -> str:
    """The whole page, self-contained: nothing is fetched when it is looked at.

    `map_by`, "pca" or "tsne", says how features become two numbers.
    """
    main, more = curves.main_charts(groups), curves.more_charts(groups)
    differing, everything = tables.config_tables(groups)
    sections = [
        Section(
            "Summary", "", render("summary.html", cards=[make_card(group) for group in groups])
        ),
        Section(
            "Curves",
            "Each line is one run, from metrics.jsonl.",
            render(
                "curves.html", entries=curves.legend(groups), main=main.values(), more=more.values()
            ),
        ),
        Section(
            "Results",
            "Mean ± standard deviation over training seeds (n runs). A paper's number is shown if "
            "method and data are those of its table; other settings may differ.",
            render("results.html", **tables.result_tables(groups)),
        ),
        Section(
            "Configuration",
            "Differences from the defaults of jaxssl."
            if len(groups) == 1
            else "Differences between the runs, apart from the seed.",
            render("configuration.html", differing=differing, everything=everything),
        ),
        *picture_sections(groups, map_by),
        Section(
            "Machine",
            "From environment.json.",
            render("machine.html", machine=tables.machine_table(groups)),
        ),
    ]
    return render("page.html", title=title, lead=_lead(groups), sections=sections)


def make_curve(groups: Sequence[Group], key: str) -> str:
    """One chart of the page as an SVG file, for documents.

    Raises:
      UserError: no run has two values of `key`, which is of metrics.jsonl.
    """
    charts = curves.main_charts(groups) | curves.more_charts(groups)
    if key not in charts:
        raise UserError(f"there is no curve of {key!r}; there are {', '.join(charts)}")
    return render("chart.svg", c=charts[key], entries=curves.legend(groups))


def render(template: str, **values: Any) -> Markup:
    """A template filled in; text that is not `Markup` is escaped."""
    return Markup(TEMPLATES.get_template(template).render(**values))


def _lead(groups: Sequence[Group]) -> str:
    runs = sum(len(group.runs) for group in groups)
    if runs == 1:
        config = groups[0].first.config
        return f"{config.method.name} with {config.sampler.name} on {config.data.source}"
    many = f"{len(groups)} configurations" if len(groups) > 1 else "one configuration"
    return f"{runs} runs of {many}; runs that differ only in their seed are averaged"


def make_card(group: Group) -> dict[str, Any]:
    """A group in the summary: its last kNN accuracy or else its loss, and the facts of its runs.

    The number is a mean over the runs that got farthest.
    """
    run, config = group.first, group.first.config
    done = [r.epochs_done for r in group.runs]
    facts = {
        "method": f"{config.method.name} · {config.sampler.name}",
        "encoder": f"{config.encoder.name} · {config.optim.name}",
        "data": config.data.source,
        "epochs": f"{_span(done)} of {config.epochs}",
        "seeds": ", ".join(str(r.config.seed) for r in group.runs),
        "images/s": f"{speeds[-1][1]:,.0f}" if (speeds := run.curve("images_per_sec")) else "",
    }
    keys = dict.fromkeys(key for run in group.runs for line in run.lines for key in line)
    accuracies = [k for k in keys if k.startswith("eval/") and k.endswith("_top1")]
    for key in (*accuracies[:1], "loss"):
        if last := [points[-1] for run in group.runs if (points := run.curve(key))]:
            farthest = max(epoch for epoch, _ in last)
            values = [value for epoch, value in last if epoch == farthest]
            _, dataset, name = key.split("/") if "/" in key else ("", "", key)
            measure = f"{spell(name)} on {dataset}" if dataset else name
            measure += f" at epoch {farthest:g}" if len(values) < len(last) else ""
            headline = tables.summarize(name, values)
            untrained = [value for r in group.runs for epoch, value in r.curve(key) if not epoch]
            facts["untrained"] = tables.summarize(name, untrained).text
            return {"name": group.name, "headline": headline, "measure": measure, "facts": facts}
    return {"name": group.name, "headline": None, "facts": facts}


def _span(values: Sequence[float]) -> str:
    """The least and the largest of the values; one where they are the same."""
    return " to ".join(f"{value:g}" for value in sorted({min(values), max(values)}))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A section of pictures, one set of them for each group, or for all that have the same."""

    title: str
    about: str
    draw: Callable[[RunArrays, str], Markup]  # "" where a run has none
    narrow: bool = False  # groups side by side
    # Keys of the config, or how they start, that are all the pictures depend on; (): on the run.
    depends_on: tuple[str, ...] = ()

    def whose(self, group: Group) -> str:
        """A text that groups of the same pictures share."""
        flat = {k: v for k, v in group.first.flat.items() if k.startswith(self.depends_on)}
        return json.dumps(flat, sort_keys=True) if self.depends_on else group.name


def picture_sections(groups: Sequence[Group], map_by: str) -> list[Section]:
    """Sections with a part for each group: pictures of its first run, as far as they fit.

    Groups whose pictures are the same share a part, under the names of all.
    """
    spent, sections = 0, []
    arrays = {group.name: RunArrays(group.first) for group in groups}
    for kind in KINDS:
        parts, names = [], dict[str, list[str]]()
        for group in groups:
            names.setdefault(kind.whose(group), []).append(group.name)
        for alike in names.values():
            name = ", ".join(alike)
            content, note = Markup(), f"Left out for {name}: the page would be too large."
            if spent < MAX_BYTES:
                content, note = attempt(kind, arrays[alike[0]], map_by)
            spent += len(content)
            if content or note:
                parts.append((name if len(groups) > 1 else "", content, note))
        if parts:
            content = render("parts.html", parts=parts, narrow=kind.narrow)
            sections.append(Section(kind.title, kind.about, content))
    return sections


def attempt(kind: Kind, arrays: RunArrays, map_by: str) -> tuple[Markup, str]:
    """The pictures and "", or none and the reason why."""
    try:
        return kind.draw(arrays, map_by), ""
    except (UserError, OSError) as error:
        reason = " ".join(str(error).split())
        log.warning("%s: no %s: %s", arrays.run.name, kind.title.lower(), reason)
        return Markup(), f"Left out: {reason}"


def draw_views(arrays: RunArrays, map_by: str) -> Markup:
    config, source = arrays.run.config, arrays.source
    indices = sample_readable(source, IMAGES)
    views = cut_views(config, source, indices, seed=config.seed)
    return render("rows.html", rows=pictures.view_rows(source, indices, views), caption="")


def draw_heat_maps(arrays: RunArrays, map_by: str) -> Markup:
    rows = pictures.heat_rows(arrays.heat_maps(HEATED))
    return render("grid.html", grids=[("", [], rows)])


def draw_neighbors(arrays: RunArrays, map_by: str) -> Markup:
    embedded = arrays.embedded
    frames = "; green frames: the query's class, orange ones: another" if embedded.classes else ""
    caption = (
        f"Nearest neighbors of images of {embedded.name}. Blue frames: queries; to their right the "
        f"most similar images, by cosine{frames}."
    )
    return render(
        "rows.html", rows=pictures.neighbor_rows(embedded, QUERIES, NEAREST), caption=caption
    )


def draw_map(arrays: RunArrays, map_by: str) -> Markup:
    embedded = arrays.embedded
    drawn = pictures.feature_map(project(embedded.features, map_by), embedded)
    projection = "First two principal components" if map_by == "pca" else "t-SNE"
    caption = f"{projection} of the features of {len(drawn.dots)} images of {embedded.name}"
    return render("map.html", map=drawn, caption=f"{caption}, at step {arrays.step}.")


def draw_confusions(arrays: RunArrays, map_by: str) -> Markup:
    """The confusion matrix of each task, data set and protocol at the newest step."""
    run = arrays.run
    found = {  # the last seed counts
        tables.measure_of(entry, entry["task"], tables.time_of(entry, run.last_step)): entry[
            "details"
        ]
        for entry in run.newest_entries
        if "confusion" in entry.get("details", {})
    }
    matrices = [
        (
            title_of(measure.name, measure.dataset),
            tables.how_measured(measure, found),
            pictures.confusion_matrix(details),
            pictures.class_table(details),
        )
        for measure, details in found.items()
    ]
    return render("confusion.html", matrices=matrices) if matrices else Markup()


def title_of(task: str, dataset: str) -> str:
    """The heading of pictures of a task."""
    return f"{spell(task)} on {dataset}"


def draw_masks(arrays: RunArrays, map_by: str) -> Markup:
    of_file = {f"{entry['dataset']}_{entry['task']}": entry for entry in arrays.run.entries}
    grids = []
    for path in sorted((arrays.run.workdir / "predictions").glob("*.npz")):
        with naming_damage(path, "delete it, or evaluate again"), path.open("rb") as file:
            predictions = read_arrays(file)
            rows = pictures.mask_rows(predictions, MASKS)
            entry = of_file.get(path.stem)
            classes = entry.get("details", {}).get("classes", []) if entry else []
            title = path.stem
            if entry:
                when = tables.time_of(entry, arrays.run.last_step)
                title = title_of(entry["task"], entry["dataset"]) + (when and f", {when}")
            grids.append((title, pictures.mask_legend(predictions, MASKS, classes), rows))
    return render("grid.html", grids=grids) if grids else Markup()


KINDS = (
    Kind("Views", "Views as in the first epoch, beside the training images with their regions and "
         "the boxes of the views. A view has the color of its box.", draw_views,
         depends_on=("seed", "data.source", "data.pixels", "data.max_objects", "sampler.",
                     "views.")),
    Kind("Neighbors", "Images with similar features of the frozen encoder.", draw_neighbors),
    Kind("Map", "Features in two dimensions: similar images lie close together.", draw_map,
         narrow=True),
    Kind("Heat maps", "Features summed over the channels at each place, from the lowest of the "
         "image, dark, to its highest, bright.", draw_heat_maps),
    Kind("Confusion", "Rows are true classes, columns predicted ones, in percent of the row. Blue "
         "is right, orange wrong. Of several seeds of an evaluation, the last.", draw_confusions),
    Kind("Masks", "Labels and predictions; black has no label.", draw_masks),
)  # fmt: skip
