// The map as square patches of pixels at every scale, painted a few at a time and cached, so that zooming moves them.
//
// A pixel of level L stands for 2 ** L x 2 ** L pairs. Tiles tell which pixels are empty or full. In partial tiles pairs
// are evaluated: all of them up to level 2, a regular sample beyond.

const PATCH = 128;
const SAMPLES = 4;
const MOST_PATCHES = 1200;
const WORK = 3e7;

class Patches {
  /** `scene` is the shown map, made in `main.js`. */
  constructor(scene, colours) {
    this.scene = scene;
    this.colours = colours;
    this.known = new Map();
    this.wanted = [];
    this.current = null;
    const cost = scene.evaluator.needed(scene.relation).length * PATCH * PATCH;
    this.samples = Math.max(1, Math.min(SAMPLES, Math.floor(Math.sqrt(WORK / cost))));
  }

  /** The patch, if it is painted. */
  get(level, row, column) {
    const key = `${level}/${row}/${column}`, patch = this.known.get(key);
    if (patch) {
      this.known.delete(key);  // the most recently used are at the end
      this.known.set(key, patch);
    }
    return patch;
  }

  /** Paints some of the wanted patches until the time (of `performance.now`); true if there is more to do. */
  work(until) {
    while (performance.now() < until) {
      if (this.current === null) {
        const next = this.wanted.shift();
        if (next === undefined) return false;
        const key = next.join("/");
        if (this.known.has(key)) continue;
        this.current = { key, steps: this.paint(...next) };
      }
      const step = this.current.steps.next();
      if (step.done) {
        this.known.set(this.current.key, step.value);
        this.current = null;
        if (this.known.size > MOST_PATCHES) this.known.delete(this.known.keys().next().value);
      }
    }
    return true;
  }

  *paint(level, row, column) {
    const { queries, keys } = this.scene, step = 2 ** level;
    const first = [row * PATCH * step, column * PATCH * step];
    const height = Math.min(PATCH, Math.ceil((queries.length - first[0]) / step));
    const width = Math.min(PATCH, Math.ceil((keys.length - first[1]) / step));
    const full = this.covered("full", first, height, width, step);
    const partial = this.covered("partial", first, height, width, step);
    const share = Float32Array.from(full);
    const pairs = this.scene.ranks && this.middles(first, height, width, step);
    yield* this.sample(share, partial, first, width, step, pairs);
    const image = new ImageData(width, height), words = new Uint32Array(image.data.buffer), { colours, scene: { ranks } } = this;
    for (let at = 0; at < words.length; at++)
      words[at] = ranks
        ? colours.rankPixel(full[at], partial[at], share[at], ranks.colour(pairs.query[at], pairs.key[at]))
        : colours.pixel(full[at], partial[at], share[at]);
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /** The declared positions of the pair in the middle of each pixel. */
  middles([top, left], height, width, step) {
    const { queries, keys, position } = this.scene, pairs = { query: new Int32Array(height * width), key: new Int32Array(height * width) };
    const middle = (at, length) => Math.min(at + (step >> 1), length - 1);
    for (let pixel = 0; pixel < height * width; pixel++) {
      pairs.query[pixel] = position("query", middle(top + Math.floor(pixel / width) * step, queries.length));
      pairs.key[pixel] = position("key", middle(left + (pixel % width) * step, keys.length));
    }
    return pairs;
  }

  /** The share of each pixel that tiles of a kind cover. */
  covered(kind, [top, left], height, width, step) {
    const result = new Float32Array(height * width), { block, queries } = this.scene;
    let line = null, lineOf = -1;
    for (let y = 0; y < height; y++) {
      const begin = top + y * step, end = Math.min(begin + step, queries.length);
      for (let tiles = Math.floor(begin / block[0]); tiles * block[0] < end; tiles++) {
        if (tiles !== lineOf) [line, lineOf] = [this.line(this.scene[kind], tiles, left, width, step), tiles];
        if (line === null) continue;
        const weight = (Math.min(end, (tiles + 1) * block[0]) - Math.max(begin, tiles * block[0])) / (end - begin);
        for (let x = 0; x < width; x++) result[y * width + x] += line[x] * weight;
      }
    }
    return result;
  }

  /** The share of each pixel that one row of tiles covers; null if it has no tiles there. */
  line(runs, tiles, left, width, step) {
    const size = this.scene.block[1], length = this.scene.keys.length, right = Math.min(left + width * step, length);
    let low = runs.row[tiles], high = runs.row[tiles + 1];
    const last = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (runs.end[middle] * size <= left) low = middle + 1;
      else high = middle;
    }
    if (low === last || runs.start[low] * size >= right) return null;
    const line = new Float32Array(width);
    for (let run = low; run < last && runs.start[run] * size < right; run++) {
      const begin = Math.max(runs.start[run] * size, left), end = Math.min(runs.end[run] * size, right);
      for (let x = Math.floor((begin - left) / step); left + x * step < end; x++) {
        const from = left + x * step, to = Math.min(from + step, length);
        line[x] += (Math.min(end, to) - Math.max(begin, from)) / (to - from);
      }
    }
    return line;
  }

  /** Sets the share of attended pairs in pixels with partial tiles, and, of `pairs` or null, one that attends. Yields after every
   * column of pairs. */
  *sample(share, partial, [top, left], width, step, pairs) {
    const { queries, keys, evaluator, relation, head } = this.scene, { query, key } = evaluator.positions;
    const side = Math.min(step, step <= 4 ? SAMPLES : this.samples), each = side * side;
    const pixels = Math.floor(CHUNK / each), waiting = new Int32Array(pixels);
    let count = 0;
    const settle = () => {
      const holds = evaluator.run(relation, count * each, head);
      for (let pixel = 0, at = 0; pixel < count; pixel++) {
        let attended = 0;
        for (const end = at + each; at < end; at++) {
          if (pairs && holds[at] && attended === 0) [pairs.query[waiting[pixel]], pairs.key[waiting[pixel]]] = [query[at], key[at]];
          attended += holds[at];
        }
        share[waiting[pixel]] = attended / each;
      }
      count = 0;
    };
    for (let pixel = 0; pixel < share.length; pixel++) {
      if (partial[pixel] === 0) continue;
      const q = top + Math.floor(pixel / width) * step, k = left + (pixel % width) * step;
      const tall = Math.min(step, queries.length - q), wide = Math.min(step, keys.length - k);
      for (let at = 0; at < each; at++) {
        const row = Math.floor(at / side);
        const down = Math.min(tall - 1, Math.floor(((row + jitter(pixel, at)) * tall) / side));
        const across = Math.min(wide - 1, Math.floor((((at % side) + jitter(at, pixel)) * wide) / side));
        query[count * each + at] = this.scene.position("query", q + down);
        key[count * each + at] = this.scene.position("key", k + across);
      }
      waiting[count++] = pixel;
      if (count === pixels) {
        settle();
        yield;
      }
    }
    if (count > 0) settle();
  }
}

/** A fixed number between 0 and 1 for each sample, so that samples do not align with a periodic pattern. */
const jitter = (a, b) => mix(Math.imul(a, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca6b)) / 4294967296;
