import assert from "node:assert/strict";
import test from "node:test";

import { gifOf, paletteOf } from "../../../gradcam_callbacks/reviewing/page/js/gif.js";

/** The pixels of a picture whose red, green and blue are told by place. */
function picture(width, height, colourAt) {
  const pixels = new Uint8ClampedArray(4 * width * height);
  for (let at = 0; at < width * height; at++) {
    pixels.set([...colourAt(at % width, Math.floor(at / width)), 255], 4 * at);
  }
  return pixels;
}

/** The numbers that codes of LZW stand for, by the book. */
function unpacked(bytes) {
  const numbers = [];
  let [table, width, bit, before] = [[], 9, 0, null];
  const begin = () => {
    table = Array.from({ length: 258 }, (_, at) => (at < 256 ? [at] : []));
    [width, before] = [9, null];
  };
  for (;;) {
    let code = 0;
    for (let at = 0; at < width; at++, bit++) code |= ((bytes[bit >> 3] >> (bit & 7)) & 1) << at;
    if (code === 257) return numbers;
    if (code === 256) {
      begin();
      continue;
    }
    const entry = code < table.length ? table[code] : [...before, before[0]];
    if (before !== null && table.length < 4096) table.push([...before, entry[0]]);
    numbers.push(...entry);
    before = entry;
    if (table.length === 1 << width && width < 12) width++;
  }
}

/** Size, pauses and pictures of a GIF. */
function read(bytes) {
  const pair = (at) => bytes[at] + 256 * bytes[at + 1];
  const [width, height] = [pair(6), pair(8)];
  const palette = bytes.subarray(13, 13 + 768);
  const frames = [];
  let shown = new Array(width * height).fill(0);
  let at = 13 + 768 + 19;
  while (bytes[at] === 0x21) {
    const pause = 10 * pair(at + 4);
    at += 8 + 10 + 1;
    const packed = [];
    for (; bytes[at] > 0; at += bytes[at] + 1) packed.push(...bytes.subarray(at + 1, at + 1 + bytes[at]));
    at++;
    shown = unpacked(packed).map((index, place) => (index === 255 ? shown[place] : index));
    frames.push({ pause, colours: shown.map((index) => [...palette.subarray(3 * index, 3 * index + 3)]) });
  }
  assert.equal(bytes[at], 0x3b);
  assert.equal(at, bytes.length - 1);
  return { start: String.fromCharCode(...bytes.subarray(0, 6)), width, height, frames };
}

const coloursOf = (pixels) =>
  Array.from({ length: pixels.length / 4 }, (_, at) => [...pixels.subarray(4 * at, 4 * at + 3)]);

test("A few colours come back as they were, at each frame, with its pause.", () => {
  const shades = [
    [255, 255, 255],
    [29, 28, 26],
    [240, 100, 10],
    [20, 60, 200],
  ];
  const frames = [0, 1, 2].map((step) => ({
    pixels: picture(13, 7, (x, y) => shades[(x + y * step) % 4]),
    pause: 200 + 100 * step,
  }));
  const gif = read(gifOf(13, 7, paletteOf(frames.map(({ pixels }) => pixels)), frames));
  assert.deepEqual([gif.start, gif.width, gif.height], ["GIF89a", 13, 7]);
  assert.deepEqual(gif.frames.map(({ pause }) => pause), [200, 300, 400]);
  gif.frames.forEach(({ colours }, at) => assert.deepEqual(colours, coloursOf(frames[at].pixels)));
});

test("Of many colours each pixel has one that is near, also where the table of codes is full and begins anew.", () => {
  let seed = 1;
  const noise = () => (seed = (seed * 48271) % 2147483647) % 256;
  const frames = [0, 1].map(() => ({ pixels: picture(160, 120, () => [noise(), noise(), noise()]), pause: 100 }));
  const gif = read(gifOf(160, 120, paletteOf(frames.map(({ pixels }) => pixels)), frames));
  gif.frames.forEach(({ colours }, at) => {
    const wanted = coloursOf(frames[at].pixels).flat();
    assert.equal(colours.length, 160 * 120);
    const off = colours.flat().reduce((sum, value, place) => sum + Math.abs(value - wanted[place]), 0);
    assert.ok(off / wanted.length < 16, `${off / wanted.length}`);
  });
});
