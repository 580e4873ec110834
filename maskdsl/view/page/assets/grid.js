// Draws the keys of one query on their grids: an image, the frames of a video, or the lines of a text.

const STRIP = 512;
const GAP = 1;
const NAME = 17;
const WIDTH = 340;
const LARGEST_CELL = 14;

/** A figure for each space of keys. `attended` has 0 or 1 for each key in declared order, `query` is the position
 * of the query among the keys, or -1. `act` has the functions called for pointing at a key and for choosing it. */
function grids(keys, attended, query, colours, act) {
  return keys.spaces.map((space) => grid(space, keys.spaces.length > 1, attended, query, colours, act));
}

function grid(space, isNamed, attended, query, colours, act) {
  const lengths = space.axes.map(([, length]) => length), shape = frames(lengths);
  const canvas = document.createElement("canvas");
  canvas.width = shape.width;
  canvas.height = shape.height;
  const image = new ImageData(shape.width, shape.height), words = new Uint32Array(image.data.buffer);
  let total = 0;
  const sums = new Float32Array(words.length), sizes = new Float32Array(words.length);
  for (let at = 0; at < space.size; at++) {
    const [x, y] = shape.pixel(at), holds = attended[space.offset + at];
    total += holds;
    sums[y * shape.width + x] += holds;
    sizes[y * shape.width + x] += 1;
  }
  for (let at = 0; at < words.length; at++)
    if (sizes[at]) words[at] = packed(mixed(colours.empty, colours.full, sums[at] ? 0.25 + 0.75 * (sums[at] / sizes[at]) : 0));
  canvas.getContext("2d").putImageData(image, 0, 0);
  const box = element("div", { class: "grid" });
  const axes = space.axes.map(([name, length]) => `${name} ${count(length)}`).join(" × ");
  const text = `${isNamed ? `${space.name}: ` : ""}${count(total)} of ${count(space.size)} keys`;
  box.append(element("p", { class: "quiet" }, `${text}${lengths.length > 1 ? `, ${axes}` : ""}${shape.caption}`));
  if (total === 0 || (isNamed && total === space.size)) return box;
  const frame = element("div", { class: "frame" });
  frame.style.maxWidth = shape.flat ? "none" : `${shape.width * LARGEST_CELL}px`;
  frame.append(canvas);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${text} attended, on a grid of ${axes}`);
  canvas.style.height = shape.flat ? "30px" : "auto";
  frame.append(...shape.names(space.axes.map(([name]) => name)));
  if (query >= space.offset && query < space.offset + space.size) frame.append(ring(shape, query - space.offset));
  const at = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - bounds.left) / bounds.width) * shape.width);
    const y = Math.floor(((event.clientY - bounds.top) / bounds.height) * shape.height);
    const number = shape.token(x, y);
    return number === null ? null : space.offset + number;
  };
  canvas.addEventListener("pointermove", (event) => act.hover(at(event)));
  canvas.addEventListener("click", (event) => act.choose(at(event)));
  box.append(frame);
  return box;
}

function ring(shape, token) {
  const [x, y] = shape.pixel(token), mark = element("div", { class: "ring" });
  mark.style.left = `${((x + 0.5) / shape.width) * 100}%`;
  mark.style.top = `${((y + 0.5) / shape.height) * 100}%`;
  return mark;
}

/** The layout of a grid: the last two axes are a frame, other axes are frames side by side. */
function frames(lengths) {
  if (lengths.length === 1) return strip(lengths[0]);
  const [height, width] = lengths.slice(-2), number = lengths.slice(0, -2).reduce((a, b) => a * b, 1);
  const across = Math.max(1, Math.min(number, Math.ceil(Math.sqrt((number * height) / width))));
  const down = Math.ceil(number / across), size = height * width, wide = across * (width + GAP) - GAP;
  // Above each of several frames there is room for its name, in cells.
  const above = number > 1 ? Math.ceil(NAME / Math.min(LARGEST_CELL, WIDTH / wide)) : 0, step = height + above + (number > 1 ? 0 : GAP);
  return {
    width: wide,
    height: number > 1 ? down * step : height,
    caption: number > 1 ? `; ${number} frames` : "",
    names: (axes) => (number > 1 ? Array.from({ length: number }, (_, frame) => frameName(axes, lengths, frame)) : []).map((text, frame) => {
      const name = element("span", { class: "frame-name quiet" }, text);
      name.style.left = `${(((frame % across) * (width + GAP)) / wide) * 100}%`;
      name.style.top = `${((Math.floor(frame / across) * step) / (down * step)) * 100}%`;
      return name;
    }),
    pixel(token) {
      const frame = Math.floor(token / size), inside = token % size;
      return [(frame % across) * (width + GAP) + (inside % width), Math.floor(frame / across) * step + above + Math.floor(inside / width)];
    },
    token(x, y) {
      const column = Math.floor(x / (width + GAP)), row = Math.floor(y / step);
      const [left, top] = [x - column * (width + GAP), y - row * step - above], frame = row * across + column;
      return x < 0 || top < 0 || left >= width || top >= height || column >= across || frame >= number ? null : frame * size + top * width + left;
    },
  };
}

/** The index of a frame along all axes but the last two: `t = 3`. */
function frameName(axes, lengths, frame) {
  const names = [];
  for (let axis = lengths.length - 3; axis >= 0; axis--) {
    names.unshift(`${axes[axis]} = ${frame % lengths[axis]}`);
    frame = Math.floor(frame / lengths[axis]);
  }
  return names.join(", ");
}

/** The layout of a line of tokens; many tokens share pixels. */
function strip(length) {
  const width = Math.min(length, STRIP);
  return {
    width,
    height: 1,
    flat: true,
    names: () => [],
    caption: "",
    pixel: (token) => [Math.floor((token * width) / length), 0],
    token: (x) => (x < 0 || x >= width ? null : Math.min(length - 1, Math.ceil((x * length) / width))),
  };
}

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [each, content] of Object.entries(attributes)) made.setAttribute(each, content);
  if (text !== "") made.textContent = text;
  return made;
}
