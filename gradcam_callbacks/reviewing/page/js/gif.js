// @ts-check
/*
 * Animated GIFs, as the specification of GIF89a describes them. Browsers write none, and no animation of another kind;
 * and of all kinds it is the one that slides, mail and chats play.
 */

const COLOURS = 255;
// The last of 256 colours is none: a pixel that is as it was in the frame before.
const CLEAR = 255;
const CODES = 4096;

/** The bin of a colour among 32 shades of red, green and blue. @param {Uint8ClampedArray} pixels @param {number} at */
const binOf = (pixels, at) => ((pixels[at] >> 3) << 10) | ((pixels[at + 1] >> 3) << 5) | (pixels[at + 2] >> 3);

/** @param {number} bin @returns {[number, number, number]} */
const shadesOf = (bin) => [bin >> 10, (bin >> 5) & 31, bin & 31];

/**
 * The colours that stand for those of pictures, by median cut (Heckbert 1982): the box of colours that matters most is
 * cut along its longest side into two of as many pixels, until there are as many boxes as colours.
 * @param {Uint8ClampedArray[]} pictures red, green, blue and cover of each pixel
 * @returns {Uint8Array} red, green and blue of 256 colours, of which the last is not for use
 */
export function paletteOf(pictures) {
  const counts = new Float64Array(32768);
  const sums = new Float64Array(3 * 32768);
  for (const pixels of pictures) {
    for (let at = 0; at < pixels.length; at += 4) {
      const bin = binOf(pixels, at);
      counts[bin]++;
      for (let part = 0; part < 3; part++) sums[3 * bin + part] += pixels[at + part];
    }
  }
  const boxes = [boxOf([...counts.keys()].filter((bin) => counts[bin] > 0), counts)];
  while (boxes.length < COLOURS) {
    const widest = boxes.reduce((one, other) => (other.weight > one.weight ? other : one));
    if (widest.weight === 0) break; // each box is one colour
    boxes.splice(boxes.indexOf(widest), 1, ...halves(widest, counts));
  }
  const palette = new Uint8Array(3 * 256);
  boxes.forEach(({ bins, count }, place) => {
    for (let part = 0; part < 3; part++) {
      palette[3 * place + part] = Math.round(bins.reduce((sum, bin) => sum + sums[3 * bin + part], 0) / count);
    }
  });
  return palette;
}

/** @typedef {{ bins: number[], count: number, side: number, weight: number }} Box */

/**
 * Some colours, along which side they differ most, and how much that matters.
 * @param {number[]} bins
 * @param {Float64Array} counts
 * @returns {Box}
 */
function boxOf(bins, counts) {
  const spans = [0, 1, 2].map((part) => {
    const shades = bins.map((bin) => shadesOf(bin)[part]);
    return shades.reduce((a, b) => Math.max(a, b)) - shades.reduce((a, b) => Math.min(a, b));
  });
  const side = spans.indexOf(Math.max(...spans));
  const count = bins.reduce((sum, bin) => sum + counts[bin], 0);
  return { bins, count, side, weight: spans[side] * Math.sqrt(count) };
}

/** @param {Box} box of more than one colour @param {Float64Array} counts */
function halves({ bins, count, side }, counts) {
  const sorted = [...bins].sort((a, b) => shadesOf(a)[side] - shadesOf(b)[side]);
  let cut = 1;
  let before = counts[sorted[0]];
  while (cut < sorted.length - 1 && before + counts[sorted[cut]] <= count / 2) before += counts[sorted[cut++]];
  return [boxOf(sorted.slice(0, cut), counts), boxOf(sorted.slice(cut), counts)];
}

/**
 * The place of the nearest colour for each pixel.
 * @param {Uint8ClampedArray} pixels
 * @param {Uint8Array} palette
 * @param {Int16Array} nearest by bin, -1 where it is not known yet
 */
function indicesOf(pixels, palette, nearest) {
  const indices = new Uint8Array(pixels.length / 4);
  for (let pixel = 0; pixel < indices.length; pixel++) {
    const at = 4 * pixel;
    const bin = binOf(pixels, at);
    if (nearest[bin] < 0) {
      let least = Infinity;
      for (let place = 0; place < COLOURS; place++) {
        let far = 0;
        for (let part = 0; part < 3; part++) far += (palette[3 * place + part] - pixels[at + part]) ** 2;
        if (far < least) [least, nearest[bin]] = [far, place];
      }
    }
    indices[pixel] = nearest[bin];
  }
  return indices;
}

/**
 * Numbers below 256 packed by LZW with codes of 9 to 12 bits, as in appendix F of the specification.
 * @param {Uint8Array} indices
 * @param {Uint32Array} links by code and number which code goes on, and when that was noted: 256 for each code, all 0
 * @param {{ tables: number }} made how many tables there have been
 */
function packed(indices, links, made) {
  const [clear, end] = [256, 257];
  const bytes = new Uint8Array(1.5 * indices.length + 1024);
  let [length, held, bits, width, next] = [0, 0, 0, 9, 258];
  const write = (/** @type {number} */ code) => {
    held |= code << bits;
    for (bits += width; bits >= 8; bits -= 8) {
      bytes[length++] = held & 255;
      held >>>= 8;
    }
  };
  write(clear);
  made.tables++;
  let code = indices[0];
  for (let at = 1; at < indices.length; at++) {
    const link = 256 * code + indices[at];
    if (links[link] >>> 12 === made.tables) {
      code = links[link] & 4095;
      continue;
    }
    write(code);
    code = indices[at];
    if (next === CODES) {
      write(clear);
      made.tables++;
      [width, next] = [9, 258];
      continue;
    }
    if (next === 1 << width) width++;
    links[link] = (made.tables << 12) | next++;
  }
  write(code);
  write(end);
  if (bits > 0) bytes[length++] = held;
  return bytes.subarray(0, length);
}

/**
 * An animation that never ends.
 * @param {number} width
 * @param {number} height
 * @param {Uint8Array} palette see `paletteOf`
 * @param {Iterable<{ pixels: Uint8ClampedArray, pause: number }>} frames and how many milliseconds each stays
 */
export function gifOf(width, height, palette, frames) {
  const pair = (/** @type {number} */ number) => [number & 255, number >> 8];
  const letters = (/** @type {string} */ text) => [...text].map((letter) => letter.charCodeAt(0));
  const size = [...pair(width), ...pair(height)];
  /** @type {(number[] | Uint8Array)[]} */
  const parts = [[...letters("GIF89a"), ...size, 0xf7, 0, 0], palette];
  parts.push([0x21, 0xff, 11, ...letters("NETSCAPE2.0"), 3, 1, 0, 0, 0]); // again and again
  const [nearest, links, made] = [new Int16Array(32768).fill(-1), new Uint32Array(256 * CODES), { tables: 0 }];
  /** @type {Uint8Array | null} */
  let before = null;
  for (const { pixels, pause } of frames) {
    const indices = indicesOf(pixels, palette, nearest);
    const changed = before === null ? indices : indices.map((index, at) => (index === before?.[at] ? CLEAR : index));
    before = indices;
    parts.push([0x21, 0xf9, 4, 5, ...pair(Math.round(pause / 10)), CLEAR, 0, 0x2c, 0, 0, 0, 0, ...size, 0, 8]);
    const bytes = packed(changed, links, made);
    for (let at = 0; at < bytes.length; at += 255) {
      const block = bytes.subarray(at, at + 255);
      parts.push([block.length], block);
    }
    parts.push([0]);
  }
  parts.push([0x3b]);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
