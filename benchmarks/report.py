"""The review page: how large it is, how long it takes to build and to show, and how smoothly it plays.

    python benchmarks/report.py [--against CHECKOUT] [--rounds 3] [--sizes 16x3x50 64x5x200]

Opens pages of synthetic runs in a headless Chromium, which draws on the processor alone; each number is the median of
the rounds. With `--against`, the pages of another checkout take turns with those of this one. Needs Playwright and
Chromium.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from gradcam_callbacks.probes.slugs import slugs
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.record.manifest import Manifest

SIZES = ((16, 3, 50), (64, 5, 200))
# Builds a page twice, the first time for what is loaded then, and says how long the second time took, in ms.
BUILD = """
import sys, time
from pathlib import Path
from gradcam_callbacks.record.journal import Journal
from gradcam_callbacks.reviewing import report
journal = Journal(sys.argv[1])
report.build([journal])
started = time.perf_counter()
report.write([journal], Path(sys.argv[2]))
print(1000 * (time.perf_counter() - started))
"""
SIDE = 224
CLASSES = 10

# Notes when the first picture with heat is there.
WATCH = """() => {
  const look = () => {
    const canvas = document.querySelector(".cell canvas");
    if (canvas && canvas.width > 1) window.drawnAfter = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
# Plays all steps at 30 a second, or as fast as it goes, and counts what is shown a second.
PLAY = """() => new Promise(done => {
  const now = document.getElementById("now");
  const speed = document.getElementById("speed");
  speed.value = "30";
  document.getElementById("play").click();
  let shown = 0, seen = now.textContent, started = performance.now(), last = started, longest = 0;
  const look = () => {
    const time = performance.now();
    if (now.textContent !== seen) {
      if (shown) longest = Math.max(longest, time - last);
      [seen, last] = [now.textContent, time];
      shown++;
    }
    if (document.getElementById("play").classList.contains("playing")) requestAnimationFrame(look);
    else done([shown / (last - started) * 1000, longest, shown]);
  };
  requestAnimationFrame(look);
})"""
# Pins the first step, so that each picture has two more beside it.
PIN = """() => {
  const pinned = document.getElementById("pin-step");
  if (!pinned) return false;
  pinned.value = "0";
  pinned.dispatchEvent(new Event("change", { bubbles: true }));
  document.getElementById("controls").scrollIntoView();
  return true;
}"""
COST = """() => {
  const slider = document.getElementById("epoch");
  let spent = 0;
  const wait = window.requestAnimationFrame;
  return new Promise(done => {
    const waiting = [];
    window.requestAnimationFrame = call => waiting.push(call);
    let at = 0;
    const step = () => {
      if (at === Math.min(40, Number(slider.max))) {
        window.requestAnimationFrame = wait;
        done(spent / at);
        return;
      }
      slider.value = at++;
      slider.dispatchEvent(new Event("input"));
      const started = performance.now();
      for (const call of waiting.splice(0)) call(started);
      spent += performance.now() - started;
      wait(step);
    };
    wait(step);
  });
}"""


def photographs(count: int) -> np.ndarray[Any, Any]:
    """(count, 224, 224, 3) uint8: photographs if scikit-image is there, else soft noise, which takes as many bytes."""
    try:
        from skimage import data

        given = [data.astronaut(), data.cat(), data.coffee(), data.rocket()]
    except ImportError:
        given = [np.random.default_rng(n).integers(0, 255, (40, 40, 3), np.uint8) for n in range(4)]
    turned = [Image.fromarray(given[n % 4]).rotate(7 * (n // 4)).resize((SIDE, SIDE)) for n in range(count)]
    return np.stack([np.asarray(picture) for picture in turned])


def make_journal(folder: Path, probes: int, targets: int, epochs: int) -> Journal:
    """A run whose attention wanders."""
    generator = np.random.default_rng(0)
    names = [f"probe {n}" for n in range(probes)]
    asked = ["predicted", *[f"class {k}" for k in range(1, targets)]]
    manifest = Manifest(
        probes="0" * 64,
        names=tuple(names),
        targets=tuple(asked),
        probe_slugs=slugs(names),
        target_slugs=slugs(asked),
        labels=tuple(n % CLASSES for n in range(probes)),
        class_names=tuple(f"class {k}" for k in range(CLASSES)),
        layer="top_conv",
        method="gradcam",
        run_id="benchmark",
    )
    journal = Journal.create(folder, manifest=manifest, pictures=photographs(probes))
    rows, columns = np.mgrid[:7, :7]
    place = generator.uniform(0, 6, (probes, targets, 2))
    for epoch in range(epochs):
        place = np.clip(place + generator.normal(0, 0.5, place.shape), 0, 6)
        far = (rows - place[..., :1, None]) ** 2 + (columns - place[..., 1:, None]) ** 2
        predicted = generator.integers(0, CLASSES, probes) if epoch == 0 else np.arange(probes) % CLASSES
        explained = np.tile(np.arange(targets), (probes, 1))
        explained[:, 0] = predicted
        arrays = {
            "maps": (np.exp(-far / 4) + 0.05 * generator.random(far.shape)).astype(np.float32),
            "scores": generator.normal(5, 1, (probes, targets)).astype(np.float32),
            "probabilities": generator.random((probes, targets)).astype(np.float32),
            "predicted": predicted.astype(np.int32),
            "explained": explained.astype(np.int32),
            "health": np.full((probes, targets), "ok"),
            "floor": np.full((probes, targets), 0.02),
        }
        logs = {"accuracy": epoch / epochs, "loss": 1 / (1 + epoch), "val_accuracy": epoch / epochs, "val_loss": 1.0}
        journal.append(epoch, arrays, logs)
    return journal


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def measure(browser: Browser, file: Path, width: int, height: int) -> dict[str, float]:
    """What a page costs to open and to play."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.add_init_script(f"({WATCH})()")
    page.goto(file.as_uri(), wait_until="load")
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
    paint = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.locator("#controls").evaluate("node => node.scrollIntoView()")  # so that as many cells as can be are seen
    page.wait_for_function("() => window.drawnAfter")
    drawn = page.evaluate("() => window.drawnAfter")
    page.wait_for_timeout(500)
    cells = page.locator(".cell canvas").evaluate_all(
        "all => all.map(c => c.getBoundingClientRect()).filter(box => box.top < innerHeight && box.bottom > 0).length"
    )
    rate, longest, _ = page.evaluate(PLAY)
    cost = page.evaluate(COST)
    is_pinned = page.evaluate(PIN)
    page.wait_for_timeout(500)
    pinned, pinned_longest, _ = page.evaluate(PLAY) if is_pinned else (math.nan, math.nan, 0)
    pinned_cost = page.evaluate(COST) if is_pinned else math.nan
    page.close()
    return {
        "paint": paint,
        "drawn": drawn,
        "rate": rate,
        "longest": longest,
        "pinned": pinned,
        "pinned_longest": pinned_longest,
        "cost": cost,
        "pinned_cost": pinned_cost,
        "cells": cells,
    }


def build(checkout: Path, journal: Path, file: Path) -> float:
    """Writes the page of a journal as a checkout does; how long that took, in ms."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", BUILD, str(journal.resolve()), str(file.resolve())]
    # Python looks first where it is started.
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def sizes_of(text: str) -> tuple[int, int, int]:
    """Probes, targets and epochs, as in "16x3x50"."""
    probes, targets, epochs = map(int, text.split("x"))
    return probes, targets, epochs


COLUMNS = {
    "size": ("size, MB", 2),
    "build": ("build", 0),
    "paint": ("first paint", 0),
    "drawn": ("first heat", 0),
    "rate": ("fps", 1),
    "longest": ("longest", 0),
    "pinned": ("fps pinned", 1),
    "pinned_longest": ("longest pinned", 0),
    "cost": ("script a step", 1),
    "pinned_cost": ("script a step pinned", 1),
    "cells": ("cells", 0),
}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout, whose pages take turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=sizes_of, nargs="+", default=SIZES, metavar="PROBESxTARGETSxEPOCHS")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    options = parser.parse_args()
    checkouts = {"before": options.against.resolve()} if options.against else {}
    checkouts["now"] = Path(__file__).resolve().parents[1]
    print(f"Viewport {options.width} x {options.height}; times in ms; fps at a wish of 30 epochs a second;", end=" ")
    print(f"medians of {options.rounds} rounds.")
    print("| probes x targets x epochs | | " + " | ".join(title for title, _ in COLUMNS.values()) + " |")
    print("|---|---|" + "---:|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        for sizes in options.sizes:
            folder = Path(temporary, "x".join(map(str, sizes)))
            make_journal(folder, *sizes)
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
            for _ in range(options.rounds):
                for name, checkout in checkouts.items():
                    file = Path(temporary, f"{name}.html")
                    built = {"build": build(checkout, folder, file), "size": file.stat().st_size / 1e6}
                    rounds[name].append(built | measure(browser, file, options.width, options.height))
            for name, seen in rounds.items():
                medians = [statistics.median(each[key] for each in seen) for key in COLUMNS]
                numbers = [f"{value:.{digits}f}" for value, (_, digits) in zip(medians, COLUMNS.values(), strict=True)]
                print(f"| {' x '.join(map(str, sizes))} | {name} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
