"""The review page: how large it is, how long it takes to build and to show, and how smoothly it plays.

Opens pages of synthetic runs in a headless Chromium, which draws on the processor alone. Needs Playwright and Chromium:
`python benchmarks/report.py`.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
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
from gradcam_callbacks.reviewing import report

SIZES = ((16, 3, 50), (64, 5, 200))
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
    pinned, _, _ = page.evaluate(PLAY) if is_pinned else (math.nan, 0, 0)
    page.close()
    return {
        "paint": paint,
        "drawn": drawn,
        "rate": rate,
        "longest": longest,
        "pinned": pinned,
        "cost": cost,
        "cells": cells,
    }


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    options = parser.parse_args()
    print(f"Viewport {options.width} x {options.height}; times in ms; fps at a wish of 30 epochs a second.")
    print(
        "probes x targets x epochs    size   build   first paint   first heat   fps   longest   fps pinned   "
        "script a step   cells"
    )
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        for sizes in SIZES:
            journal = make_journal(Path(temporary, "x".join(map(str, sizes))), *sizes)
            report.build([journal])  # imports and fonts are loaded
            started = time.perf_counter()
            file = report.write([journal], Path(temporary, "report.html"))
            built = 1000 * (time.perf_counter() - started)
            seen = measure(browser, file, options.width, options.height)
            print(
                f"{' x '.join(map(str, sizes)):<24} {file.stat().st_size / 1e6:>6.2f} MB {built:>6.0f} "
                f"{seen['paint']:>11.0f} {seen['drawn']:>13.0f} {seen['rate']:>7.1f} {seen['longest']:>7.0f} "
                f"{seen['pinned']:>12.1f} {seen['cost']:>13.1f} {seen['cells']:>10.0f}"
            )


if __name__ == "__main__":
    main()
