"""What a terminal shows of an evaluation: ten rows and a verdict in words, or every metric; the files hold all."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from medgan.evaluation.arms import DISTANCE, DO_NOTHING, LOOKUP, REAL, SHIFTED, SYNTHETIC
from medgan.evaluation.evaluate import SUMMARY, Evaluation
from medgan.evaluation.judging import IN_LABELS, OVER_LABELS, measure
from medgan.evaluation.matching import Failure
from medgan.evaluation.statistics import interval_text, verdict

MOST_ROWS, MOST_LABELS = 10, 5
HEADLINES = (
    OVER_LABELS, DISTANCE, "core_mae_hu", "mae_hu", "enhancing_mae_percent", "mae_percent", "enhancing_dice",
    "change_bone_hu", "change_fat_hu", "change_lung_hu", "core_bone_dice", "bone_dice", "ssim",
)  # fmt: skip
"""The first metrics that are looked at; the verdict is about the first of them that an evaluation has."""
IN_PERCENT = ("mae_", "core_mae_", DISTANCE)
"""Beginnings of metrics whose difference is shown in percent too: errors, of which none is best."""
NAME_WIDTH = 18
"""Characters of a metric's name on one line. A least width instead makes rich draw a table wider than its terminal."""
MAX_INTERVALS = 4
"""With more arms, only the synthetic one's intervals are shown; the files hold all."""
MAX_FAILURES = 10
SEEN_TITLE = "subjects that the model has seen: no evidence of how it does on others"


def render(evaluation: Evaluation, *, every: bool = False) -> Group:
    """The arms side by side and the synthetic arm's difference to a baseline, a verdict, notes and failures.

    Of the metrics the first ten, or with ``every`` all, with every arm's interval.
    """
    notes = [Text(note, style="dim") for note in evaluation.notes]
    distances = ", ".join(f"{arm} {value:.1f}" for arm, value in evaluation.pooled_distance_hu.items())
    if distances:
        notes.append(Text(f"Distance of all subjects together to the real images, in soft tissue, HU: {distances}."))
    seen, table = evaluation.seen, _every_metric if every else _headlines
    apart = [table(seen, SEEN_TITLE)] if seen and not seen.rows.empty else []
    words = [] if evaluation.rows.empty else [Text(line, style="bold") for line in verdicts(evaluation)]
    first = [] if evaluation.rows.empty else [table(evaluation)]
    return Group(*first, *words, *notes, *apart, *failure_lines(evaluation.failures, SUMMARY))


def failure_lines(failures: Sequence[Failure], file: str) -> list[Text]:
    """The first images that were not judged, and how many more the ``file`` names."""
    lines = [Text(f"not judged: {f.image}: {f.reason}", style="red") for f in failures[:MAX_FAILURES]]
    if len(failures) > MAX_FAILURES:
        lines.append(Text(f"and {len(failures) - MAX_FAILURES} more, in {file}", style="red"))
    return lines


def verdicts(evaluation: Evaluation) -> Iterator[str]:
    """A sentence a baseline: what the interval of the synthetic images' difference says in the headline metric."""
    means, metric = _means(evaluation), _headline(evaluation)
    if metric is None or SYNTHETIC not in means:
        return
    own, form = means[SYNTHETIC][metric], f".{measure(metric).digits}f"
    for baseline in _baselines(means):
        difference = _difference(evaluation, baseline, metric)
        if math.isnan(difference["difference"]):
            continue
        words = {
            "lower": f"{SYNTHETIC} is better than {baseline}",
            "higher": f"{SYNTHETIC} is worse than {baseline}",
            "not shown": f"{SYNTHETIC} is not shown to differ from {baseline}",
        }.get(verdict(difference), f"too few subjects tell {SYNTHETIC} and {baseline} apart")
        change = interval_text(difference["difference"], difference["lower"], difference["upper"], f"+{form}")
        yield (
            f"{words}: {metric} {own:{form}} beside {means[baseline][metric]:{form}}, difference {change}, "
            f"nearer in {difference['better_in']:.0f} of {difference['n']:.0f} subjects."
        )


def _headline(evaluation: Evaluation) -> str | None:
    """The metric that the verdict is about: an error, of which none is best."""
    metrics = set(evaluation.summary["metric"][evaluation.summary["mean"].notna()])
    return next((name for name in HEADLINES if name in metrics and measure(name).ideal == 0), None)


def _means(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Every arm's means by metric."""
    return {
        str(arm): dict(zip(rows["metric"], rows["mean"], strict=True))
        for arm, rows in evaluation.summary.groupby("arm", sort=False)
    }


def _baselines(arms: dict[str, dict[str, float]]) -> list[str]:
    """What needs no network; real images are no baseline, and moved ones only tell what registration costs."""
    return [arm for arm in arms if arm not in (SYNTHETIC, REAL, SHIFTED)]


def _difference(evaluation: Evaluation, baseline: str, metric: str) -> dict[Any, Any]:
    rows = evaluation.comparisons
    found: dict[Any, Any] = rows[(rows["baseline"] == baseline) & (rows["metric"] == metric)].iloc[0].to_dict()
    return found


def _headlines(evaluation: Evaluation, title: str | None = None) -> Table:
    """The metrics that are looked at first, by label where there are labels; the files hold the others."""
    means, headline = _means(evaluation), _headline(evaluation)
    known = {name for arm in means.values() for name, mean in arm.items() if not math.isnan(mean)}
    labels = [name for name in dict.fromkeys(evaluation.summary["metric"]) if IN_LABELS.fullmatch(name)]
    names = [*labels[:MOST_LABELS], *(name for name in HEADLINES if name in known)][:MOST_ROWS]
    baselines = _baselines(means)
    best = min(baselines, key=lambda arm: means[arm].get(headline or "", math.inf), default=None)
    baselines = list(dict.fromkeys([*baselines[:1], *filter(None, [best]), *baselines]))[:2]  # what 80 columns hold
    head = Column("MAE in HU by label,\nand others" if labels else "metric", overflow="fold")
    table = Table(head, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in (SYNTHETIC, *baselines, *([f"{SYNTHETIC} - {best}"] if best else [])):
        table.add_column(heading.replace("_", "\n"), justify="right", no_wrap=True)
    for name in names:
        form = f".{measure(name).digits}f"
        cells = [interval_text(means[arm].get(name, math.nan), math.nan, 0, form) for arm in (SYNTHETIC, *baselines)]
        if best:
            row = _difference(evaluation, best, name)
            cells.append(interval_text(row["difference"], row["lower"], row["upper"], form))
        label = IN_LABELS.fullmatch(name)
        table.add_row(Text(label[1] if label else name, style="bold" if name == headline else ""), *cells)
    return table


def _every_metric(evaluation: Evaluation, title: str | None = None) -> Table:
    arms = list(evaluation.summary["arm"].unique())
    against = next((arm for arm in (DO_NOTHING, LOOKUP) if arm in arms), None)
    differences = evaluation.comparisons.set_index(["baseline", "metric"]).to_dict("index")
    table = Table(Column("metric", overflow="fold", width=NAME_WIDTH), title=title, title_justify="left")
    for heading in (*arms, *([f"{SYNTHETIC} - {against}", "better in"] if against else [])):
        # Where the terminal is narrow the others fold their intervals, and this one does not vanish.
        table.add_column(heading, justify="right", overflow="fold", no_wrap=heading == "better in")
    for metric, rows in evaluation.summary.groupby("metric", sort=False):
        name, by_arm = str(metric), rows.set_index("arm").to_dict("index")
        if not measure(name).shown or rows["mean"].isna().all():
            continue
        form, cells = f".{measure(name).digits}f", []
        for arm, row in by_arm.items():
            briefly = len(arms) > MAX_INTERVALS and arm != SYNTHETIC
            cells.append(interval_text(row["mean"], math.nan if briefly else row["lower"], row["upper"], form))
        if against:
            row, baseline = differences[against, name], by_arm[against]["mean"]
            cell = interval_text(row["difference"], row["lower"], row["upper"], form)
            if cell and name.startswith(IN_PERCENT) and baseline and math.isfinite(baseline):
                cell += f" {100 * row['difference'] / baseline:+.0f} %"
            cells += [cell, "" if math.isnan(row["better_in"]) else f"{row['better_in']:.0f} of {row['n']}"]
        table.add_row(Text(name), *cells)
    return table
