"""The odds of a verdict: how many of the trainings that rely on the mark are found, and how many others are accused.

Verdicts are read from `verdicts.jsonl` in the working folder, one JSON object a line: {"training": its name, "rule":
"ours" …, "regions": whether the rule was given the objects' masks, "verdict": a word, "alarm_epoch": 0-based, or null
where there was none}. Where a training, rule and regions have several lines, the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy import stats

from planted import marks, training

__all__ = ["LITTLE", "MUCH", "Judged", "interval", "picture", "read", "share", "tables"]

MUCH, LITTLE = 0.5, 0.1
"""Reliance from which on a training has to be found, and up to which it must not be accused."""

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Judged:
    """What a rule said of a training, beside the truth.

    Attributes:
        settings: the training.
        reliance: at the end of it, 0 to 1.
        relies_from: first epoch from which on the reliance is at least 0.5 to the end, or None.
        rule: name of the rule.
        regions: whether the rule knew where the object is.
        verdict: its word.
        alarm_epoch: 0-based epoch of its alarm, or None.
    """

    settings: training.Settings
    reliance: float
    relies_from: int | None
    rule: str
    regions: bool
    verdict: str
    alarm_epoch: int | None

    @property
    def is_alarm(self) -> bool:
        """Whether the rule says "shortcut"; a suspicion is none."""
        return self.verdict == "shortcut"


def interval(hits: int, count: int) -> tuple[float, float]:
    """Exact two-sided 95 % interval of a share.

    Args:
        hits: how many of `count` have the property, 0 to `count`.
        count: how many there are, at least 1.

    Returns:
        Lower and upper bound, 0 to 1.

    Reference:
        Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 1934.
    """
    bounds = stats.binomtest(hits, count).proportion_ci(_CONFIDENCE, method="exact")
    return float(bounds.low), float(bounds.high)


def share(hits: int, count: int) -> str:
    """Hits of a count in words: "19 of 20 (75–100 %)"; empty where the count is 0."""
    if not count:
        return ""
    low, high = (100 * bound for bound in interval(hits, count))
    return f"{hits} of {count} ({low:.3g}–{high:.3g} %)"


def read(work: Path, wanted: Iterable[training.Settings]) -> list[Judged]:
    """The verdicts on those of the wanted trainings that are in the working folder.

    Args:
        work: the working folder.
        wanted: trainings that count.

    Returns:
        One for each training, rule and regions, in the order of the file.
    """
    verdicts: dict[tuple[str, str, bool], dict[str, Any]] = {}
    with (work / "verdicts.jsonl").open(encoding="utf-8") as lines:
        for line in filter(str.strip, lines):
            verdict = json.loads(line)
            verdicts[verdict["training"], verdict["rule"], verdict["regions"]] = verdict
    by_name = {settings.name: settings for settings in wanted}
    known: dict[str, tuple[float, int | None]] = {}
    judged = []
    for (name, rule, regions), verdict in verdicts.items():
        if name not in by_name:
            continue
        if name not in known:
            known[name] = training.truth(training.path(by_name[name], work))
        told = (rule, regions, verdict["verdict"], verdict["alarm_epoch"])
        judged.append(Judged(by_name[name], *known[name], *told))
    return judged


_PLACES = dict.fromkeys(("logo", "patch", "frame"), "beside the object") | {"inside": "in the object"}
_BY: dict[str, Callable[[training.Settings], str]] = {
    "all": lambda settings: "",
    "place": lambda settings: _PLACES.get(settings.mark, "none: tint, texture"),
    "mark": lambda settings: settings.mark,
    "arm": lambda settings: settings.arm,
    "pictures": lambda settings: settings.pictures,
    "network": lambda settings: settings.network,
}


def tables(judged: Sequence[Judged]) -> list[Table]:
    """For each rule a table of hits, false alarms and delays, over all, and by mark, arm, pictures and network.

    "only suspected" counts the verdict "suspect" among those of high, of low, and of reliance between.
    """
    made = []
    for rule, regions in dict.fromkeys((one.rule, one.regions) for one in judged):
        of_rule = [one for one in judged if (one.rule, one.regions) == (rule, regions)]
        table = Table(title=f"{rule}, {'with' if regions else 'without'} regions")
        columns = ("", "", "found, reliance ≥ 0.5", "accused, reliance ≤ 0.1", "between", "only suspected")
        for column in (*columns, "epochs from reliance to alarm"):
            table.add_column(column)
        for by, value_of in _BY.items():
            for number, value in enumerate(dict.fromkeys(value_of(one.settings) for one in of_rule)):
                members = [one for one in of_rule if value_of(one.settings) == value]
                table.add_row(by if not number else "", value, *_counted(members))
            table.add_section()
        made.append(table)
    return made


def _counted(members: Sequence[Judged]) -> tuple[str, ...]:
    much = [one for one in members if one.reliance >= MUCH]
    little = [one for one in members if one.reliance <= LITTLE]
    between = [one for one in members if LITTLE < one.reliance < MUCH]
    alarms = sum(one.is_alarm for one in between)
    suspected = (sum(one.verdict == "suspect" for one in some) for some in (much, little, between))
    return (
        share(sum(one.is_alarm for one in much), len(much)),
        share(sum(one.is_alarm for one in little), len(little)),
        f"{alarms} of {len(between)}" if between else "",
        ", ".join(map(str, suspected)),
        _delays(much),
    )


def delays(judged: Iterable[Judged]) -> list[int]:
    """Epochs from the reliance to the alarm of each training that was found; negative where the alarm came first."""
    return [
        one.alarm_epoch - one.relies_from
        for one in judged
        if one.is_alarm and one.alarm_epoch is not None and one.relies_from is not None
    ]


def _delays(judged: Sequence[Judged]) -> str:
    epochs = delays(judged)
    if not epochs:
        return ""
    low, middle, high = np.percentile(epochs, [10, 50, 90])
    return f"median {middle:g}, 10 to 90 %: {low:g} to {high:g}"


# ---- The picture ----

_FOUND, _ACCUSED, _SUSPECTED, _SILENT = "#1b6ca8", "#d1495b", "#e3a008", "#9aa5b1"
_INK, _FAINT, _BLUE = "#1f2933", "#e4e7eb", "#e3eff8"


def picture(judged: Sequence[Judged], path: Path, rule: str = "ours") -> None:
    """Draws what a rule said against the reliance, and the shares that each rule finds and accuses.

    Args:
        judged: verdicts of any rules.
        path: file to write; its ending says the format.
        rule: the rule of the left side, with regions where it has both.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plain = {"font.size": 9, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "text.color": _INK, "axes.linewidth": 0.8}
    with mpl.rc_context(plain):
        figure = Figure(figsize=(11, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        of_rule = [one for one in judged if one.rule == rule]
        with_regions = [one for one in of_rule if one.regions]
        _draw_trainings(left, with_regions or of_rule)
        _draw_rates(right, judged)
        figure.savefig(path, dpi=150)


def _draw_trainings(axes: Any, judged: Sequence[Judged]) -> None:
    """A dot a training: reliance to the right, kinds of marks from top to bottom."""
    rng = np.random.default_rng(0)
    names = [mark for mark in marks.MARKS if any(one.settings.mark == mark for one in judged)]
    axes.axvspan(-0.02, LITTLE, color=_FAINT, zorder=0, linewidth=0)
    axes.axvspan(MUCH, 1.02, color=_BLUE, zorder=0, linewidth=0)
    kinds: tuple[tuple[str, Callable[[Judged], bool], dict[str, str]], ...] = (
        ("nothing", lambda one: one.verdict not in ("shortcut", "suspect"), {"c": "none", "edgecolor": _SILENT}),
        ("suspect", lambda one: one.verdict == "suspect", {"c": "none", "edgecolor": _SUSPECTED}),
        ("shortcut", lambda one: one.is_alarm and one.reliance > LITTLE, {"c": _FOUND}),
        ("shortcut, and false", lambda one: one.is_alarm and one.reliance <= LITTLE, {"c": _ACCUSED, "marker": "D"}),
    )
    for name, belongs, style in kinds:
        members = [one for one in judged if belongs(one)]
        heights = [names.index(one.settings.mark) + rng.uniform(-0.32, 0.32) for one in members]
        label = f"{name} ({len(members)})"
        across = [one.reliance for one in members]
        axes.scatter(across, heights, s=22, linewidth=1, alpha=0.85, label=label, clip_on=False, **style)
    for row, mark in enumerate(names):
        much = [one for one in judged if one.settings.mark == mark and one.reliance >= MUCH]
        found = f"{sum(one.is_alarm for one in much)}/{len(much)}"
        axes.annotate(found, (1.02, row), xycoords=("axes fraction", "data"), va="center", color=_FOUND)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("reliance: share of other classes' pictures that the mark turns into the class")
    axes.set_title(f"What was said of {len(judged)} trainings", loc="left", fontweight="bold")
    axes.annotate("found", (1.02, 1.01), xycoords="axes fraction", color=_FOUND)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False, handletextpad=0.1, columnspacing=1
    )


def _draw_rates(axes: Any, judged: Sequence[Judged]) -> None:
    """For each rule the share found and the share accused, with exact intervals."""
    rules = list(dict.fromkeys((one.rule, one.regions) for one in judged))
    for row, key in enumerate(rules):
        members = [one for one in judged if (one.rule, one.regions) == key]
        for offset, colour, chosen in (
            (-0.17, _FOUND, [one for one in members if one.reliance >= MUCH]),
            (0.17, _ACCUSED, [one for one in members if one.reliance <= LITTLE]),
        ):
            if not chosen:
                continue
            hits = sum(one.is_alarm for one in chosen)
            low, high = interval(hits, len(chosen))
            height = row + offset
            axes.plot([low, high], [height, height], color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot(hits / len(chosen), height, "o", color=colour, markersize=6)
            place = {"xy": (1.02, height), "xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(f"{hits}/{len(chosen)}", **place, color=colour, fontsize=8)
    labels = [f"{rule}\n{'with' if regions else 'without'} regions" for rule, regions in rules]
    axes.set_yticks(range(len(rules)), labels)
    axes.set_ylim(len(rules) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of trainings, with exact 95 % intervals")
    axes.set_title("Found and accused, by rule", loc="left", fontweight="bold")
    axes.grid(axis="x", color=_FAINT)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.plot([], [], "o-", color=_FOUND, linewidth=2.2, label="found, of reliance ≥ 0.5")
    axes.plot([], [], "o-", color=_ACCUSED, linewidth=2.2, label="accused, of reliance ≤ 0.1")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
