// The canvas of the map: where it looks, what it draws, and what pointers and keys do to it.

const LEFT = 58, TOP = 26;
const LARGEST_TOKEN = 40;
const INSET = 84;
const BUDGET = 9;

class AttentionMap {
  /** `act` has what pairs under the pointer, chosen queries and the cursor do elsewhere: `hover`, `choose`, `move`. */
  constructor(canvas, act) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.act = act;
    this.view = null;
    this.hovered = null;
    this.cursor = null;
    this.lit = null;
    this.animation = null;
    this.wholeLevel = 0;
    this.frame = 0;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  /** Another scene; the part that is looked at stays, if the lengths are the same. */
  show(scene, colours) {
    const old = this.scene;
    this.scene = scene;
    this.colours = colours;
    this.patches = new Patches(scene, colours);
    const ratio = scene.keys.length / scene.queries.length;
    this.stretch = ratio > 4 || ratio < 0.25 ? ratio : 1;
    if (!this.view || !old || old.queries.length !== scene.queries.length || old.keys.length !== scene.keys.length) this.view = null;
    this.resize();
  }

  // Where things are. The view is the place of its left and top edge, in tokens, and the pixels of a key.

  resize() {
    if (!this.scene) return;
    const { queries, keys } = this.scene, width = this.canvas.parentElement.clientWidth;
    const natural = ((width - LEFT) * queries.length * this.stretch) / keys.length;
    const height = TOP + Math.round(Math.max(120, Math.min(natural, Math.max(260, innerHeight * 0.78))));
    const ratio = devicePixelRatio || 1, whole = !this.view || this.isWhole();
    [this.width, this.height, this.ratio] = [width, height, ratio];
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    if (whole) this.view = this.wholeView();
    this.clamp();
    this.redraw();
  }

  get plot() {
    return { width: this.width - LEFT, height: this.height - TOP };
  }

  fitting() {
    const { queries, keys } = this.scene;
    return Math.min(this.plot.width / keys.length, this.plot.height / (queries.length * this.stretch), LARGEST_TOKEN);
  }

  wholeView() {
    const zoom = this.fitting(), { queries, keys } = this.scene;
    return {
      x: Math.min(0, (keys.length - this.plot.width / zoom) / 2),
      y: Math.min(0, (queries.length - this.plot.height / (zoom * this.stretch)) / 2),
      zoom,
    };
  }

  isWhole() {
    return this.view.zoom <= this.fitting() * 1.001;
  }

  clamp() {
    const whole = this.wholeView(), { view } = this, { queries, keys } = this.scene;
    view.zoom = Math.min(Math.max(view.zoom, whole.zoom), LARGEST_TOKEN / Math.min(1, this.stretch));
    const across = this.plot.width / view.zoom, down = this.plot.height / (view.zoom * this.stretch);
    view.x = across >= keys.length ? (keys.length - across) / 2 : Math.min(Math.max(view.x, 0), keys.length - across);
    view.y = down >= queries.length ? (queries.length - down) / 2 : Math.min(Math.max(view.y, 0), queries.length - down);
    this.canvas.classList.toggle("zoomed", !this.isWhole());
  }

  left(key) {
    return LEFT + (key - this.view.x) * this.view.zoom;
  }

  top(query) {
    return TOP + (query - this.view.y) * this.view.zoom * this.stretch;
  }

  /** The pair of laid-out places at a point of the canvas, null outside. */
  at(x, y) {
    if (x < LEFT || y < TOP) return null;
    const key = Math.floor((x - LEFT) / this.view.zoom + this.view.x);
    const query = Math.floor((y - TOP) / (this.view.zoom * this.stretch) + this.view.y);
    const { queries, keys } = this.scene;
    return key >= 0 && query >= 0 && key < keys.length && query < queries.length ? { query, key } : null;
  }

  zoomBy(factor, x = LEFT + this.plot.width / 2, y = TOP + this.plot.height / 2) {
    const { view } = this;
    const key = (x - LEFT) / view.zoom + view.x, query = (y - TOP) / (view.zoom * this.stretch) + view.y;
    view.zoom *= factor;
    this.clamp();
    view.x = key - (x - LEFT) / view.zoom;
    view.y = query - (y - TOP) / (view.zoom * this.stretch);
    this.clamp();
    this.redraw();
  }

  /** The same within a moment, where motion is not unwelcome. */
  glide(factor, x, y) {
    cancelAnimationFrame(this.animation);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.zoomBy(factor, x, y);
    const start = performance.now();
    let done = 0;
    const step = (now) => {
      const share = Math.min(1, Math.max(0, (now - start) / 160)), eased = 1 - (1 - share) ** 3;
      this.zoomBy(factor ** (eased - done), x, y);
      done = eased;
      if (share < 1) this.animation = requestAnimationFrame(step);
    };
    this.animation = requestAnimationFrame(step);
  }

  whole() {
    cancelAnimationFrame(this.animation);
    this.view = this.wholeView();
    this.redraw();
  }

  pan(x, y) {
    this.view.x -= x / this.view.zoom;
    this.view.y -= y / (this.view.zoom * this.stretch);
    this.clamp();
    this.redraw();
  }

  /** Moves the view so that a pair can be seen. */
  reveal({ query, key }) {
    const { view } = this, across = this.plot.width / view.zoom, down = this.plot.height / (view.zoom * this.stretch);
    if (key < view.x || key + 1 > view.x + across) view.x = key - across / 2;
    if (query < view.y || query + 1 > view.y + down) view.y = query - down / 2;
    this.clamp();
    this.redraw();
  }

  // Drawing

  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
      if (this.patches.work(performance.now() + BUDGET)) this.redraw();
      else if (this.missing) this.redraw();
      else this.canvas.dataset.settled = String(++this.draws);
    });
  }

  draws = 0;

  draw() {
    const { context, colours, ratio } = this;
    this.canvas.dataset.settled = "";
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.card;
    context.fillRect(0, 0, this.width, this.height);
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP, this.plot.width, this.plot.height);
    context.clip();
    this.drawPatches();
    this.drawLines();
    if (this.lit) this.drawLit();
    this.drawCross(this.cursor, colours.accent);
    this.drawCross(this.hovered, colours.text);
    if (!this.isWhole()) this.drawInset();
    context.restore();
    this.drawRulers();
  }

  drawPatches() {
    const { context, view, scene } = this, detail = Math.log2(1 / (Math.max(view.zoom, view.zoom * this.stretch) * this.ratio));
    const level = Math.max(0, Math.round(detail)), size = PATCH * 2 ** level;
    const range = (at, room, zoom, length) => [
      Math.max(0, Math.floor(at / size)),
      Math.min(Math.ceil(length / size), Math.ceil((at + room / zoom) / size)),
    ];
    const columns = range(view.x, this.plot.width, view.zoom, scene.keys.length);
    const rows = range(view.y, this.plot.height, view.zoom * this.stretch, scene.queries.length);
    const wanted = [];
    for (let row = rows[0]; row < rows[1]; row++)
      for (let column = columns[0]; column < columns[1]; column++) {
        if (!this.drawPatch(level, row, column, size)) {
          wanted.push([level, row, column]);
          this.drawCoarser(level, row, column, size);
        }
      }
    if (this.isWhole()) this.wholeLevel = level;
    const middle = [(rows[0] + rows[1] - 1) / 2, (columns[0] + columns[1] - 1) / 2];
    const far = ([, row, column]) => Math.hypot(row - middle[0], column - middle[1]);
    this.patches.wanted = wanted.sort((a, b) => far(a) - far(b));
    this.missing = wanted.length > 0;
    this.canvas.dataset.level = String(level);
    context.imageSmoothingEnabled = true;
  }

  drawPatch(level, row, column, size) {
    const patch = this.patches.get(level, row, column);
    if (!patch) return false;
    const { context, scene, view } = this;
    const right = Math.min((column + 1) * size, scene.keys.length), bottom = Math.min((row + 1) * size, scene.queries.length);
    const [x, y] = [this.snap(this.left(column * size)), this.snap(this.top(row * size))];
    context.imageSmoothingEnabled = level > 0 || view.zoom * this.ratio < 1;
    context.drawImage(patch, x, y, this.snap(this.left(right)) - x, this.snap(this.top(bottom)) - y);
    return true;
  }

  /** What is known at a coarser level, until the patch is painted. */
  drawCoarser(level, row, column, size) {
    const { context, scene } = this;
    for (let up = 1; up <= 4; up++) {
      const patch = this.patches.get(level + up, row >> up, column >> up);
      if (!patch) continue;
      const share = PATCH / 2 ** up, x = (column % 2 ** up) * share, y = (row % 2 ** up) * share;
      const right = Math.min((column + 1) * size, scene.keys.length), bottom = Math.min((row + 1) * size, scene.queries.length);
      const wide = Math.min(share, patch.width - x), tall = Math.min(share, patch.height - y);
      const [left, top] = [this.left(column * size), this.top(row * size)];
      context.imageSmoothingEnabled = false;
      context.drawImage(patch, x, y, wide, tall, left, top, this.left(right) - left, this.top(bottom) - top);
      return;
    }
  }

  snap(place) {
    return Math.round(place * this.ratio) / this.ratio;
  }

  /** Borders of tokens and tiles, where there is room between them, and of spaces. */
  drawLines() {
    const { context, scene, view } = this, tall = view.zoom * this.stretch;
    const alpha = (pixels, least) => Math.min(1, Math.max(0, (pixels - least) / least));
    const ink = this.colours.dark ? [255, 255, 255] : [20, 20, 40];
    const steps = [
      [1, 1, 0.08 * alpha(Math.min(view.zoom, tall), 7)],
      [scene.block[0], scene.block[1], 0.2 * alpha(Math.min(view.zoom * scene.block[1], tall * scene.block[0]), 12)],
    ];
    for (const [down, across, strength] of steps) {
      if (strength <= 0) continue;
      context.strokeStyle = css(ink, strength);
      context.lineWidth = 1;
      context.beginPath();
      this.eachLine(view.x, this.plot.width / view.zoom, scene.keys.length, across, (key) => this.vertical(key));
      this.eachLine(view.y, this.plot.height / tall, scene.queries.length, down, (query) => this.horizontal(query));
      context.stroke();
    }
    context.strokeStyle = css(ink, 0.22);
    const [left, top] = [this.left(0), this.top(0)].map((place) => Math.round(place) + 0.5);
    context.strokeRect(left, top, Math.round(this.left(scene.keys.length)) - left - 0.5, Math.round(this.top(scene.queries.length)) - top - 0.5);
    context.strokeStyle = css(ink, 0.55);
    context.beginPath();
    for (const space of scene.keys.spaces.slice(1)) this.vertical(space.offset);
    for (const space of scene.queries.spaces.slice(1)) this.horizontal(space.offset);
    context.stroke();
  }

  eachLine(from, room, length, step, line) {
    const last = Math.min(length, from + room);
    for (let at = Math.max(step, Math.ceil(from / step) * step); at < last; at += step) line(at);
  }

  vertical(key) {
    const x = Math.round(this.left(key)) + 0.5;
    this.context.moveTo(x, Math.max(TOP, this.top(0)));
    this.context.lineTo(x, Math.min(this.height, this.top(this.scene.queries.length)));
  }

  horizontal(query) {
    const y = Math.round(this.top(query)) + 0.5;
    this.context.moveTo(Math.max(LEFT, this.left(0)), y);
    this.context.lineTo(Math.min(this.width, this.left(this.scene.keys.length)), y);
  }

  /** The chosen query's row, its keys as bars, all else dimmed. */
  drawLit() {
    const { context, view, colours } = this, tall = view.zoom * this.stretch, height = Math.max(tall, 10);
    const middle = this.top(this.lit.place) + tall / 2, top = middle - height / 2;
    context.fillStyle = css(colours.empty, 0.62);
    context.fillRect(LEFT, TOP, this.plot.width, Math.max(0, top - 1 - TOP));
    context.fillRect(LEFT, top + height + 1, this.plot.width, this.height);
    const begin = Math.max(0, this.left(0)), end = Math.min(this.width, this.left(this.scene.keys.length));
    context.fillStyle = css(colours.empty);
    context.fillRect(begin, top, end - begin, height);
    context.fillStyle = css(colours.full);
    const { runs } = this.lit;
    for (let at = 0; at < runs.length; at += 2) {
      const x = this.left(runs[at]), right = this.left(runs[at + 1]);
      if (right < LEFT || x > this.width) continue;
      context.fillRect(x, top, Math.max(right - x, 1), height);
    }
    context.strokeStyle = colours.mark;
    context.lineWidth = 1.5;
    context.strokeRect(begin - 2, top - 1, end - begin + 4, height + 2);
  }

  drawCross(pair, colour) {
    if (!pair) return;
    const { context, view } = this, wide = view.zoom, tall = view.zoom * this.stretch;
    const x = this.left(pair.key), y = this.top(pair.query);
    context.fillStyle = colour;
    context.globalAlpha = 0.1;
    context.fillRect(x, TOP, Math.max(wide, 1), this.plot.height);
    context.fillRect(LEFT, y, this.plot.width, Math.max(tall, 1));
    context.globalAlpha = 1;
    const [w, h] = [Math.max(wide, 7), Math.max(tall, 7)];
    for (const [style, width] of [[this.colours.card, 4], [colour, 1.5]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.strokeRect(x + wide / 2 - w / 2, y + tall / 2 - h / 2, w, h);
    }
  }

  /** The whole map in a corner, and what is looked at. */
  drawInset() {
    const { context, colours, scene, view } = this, { queries, keys } = scene;
    const zoom = INSET / Math.max(keys.length, queries.length * this.stretch), tall = zoom * this.stretch;
    const [wide, high] = [Math.max(4, keys.length * zoom), Math.max(4, queries.length * tall)];
    const [left, top] = [this.width - wide - 9.5, this.height - high - 9.5];
    context.fillStyle = css(colours.empty);
    context.fillRect(left, top, wide, high);
    const level = this.wholeLevel, size = PATCH * 2 ** level;
    for (let row = 0; row * size < queries.length; row++)
      for (let column = 0; column * size < keys.length; column++) {
        const patch = this.patches.get(level, row, column), step = 2 ** level;
        if (patch) context.drawImage(patch, left + column * size * zoom, top + row * size * tall, patch.width * step * zoom, patch.height * step * tall);
      }
    context.lineWidth = 1;
    context.strokeStyle = colours.quiet;
    context.strokeRect(left, top, wide, high);
    context.strokeStyle = colours.mark;
    context.lineWidth = 2;
    const [w, h] = [(this.plot.width / view.zoom) * zoom, (this.plot.height / (view.zoom * this.stretch)) * tall];
    context.strokeRect(left + view.x * zoom + Math.min(0, w - 4) / 2, top + view.y * tall + Math.min(0, h - 4) / 2, Math.max(w, 4), Math.max(h, 4));
  }

  drawRulers() {
    const { context, colours, scene, view } = this;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colours.quiet;
    context.strokeStyle = colours.line;
    context.textBaseline = "middle";
    const name = (side, place) => {
      const space = scene[side].spaces.findLast((each) => each.offset <= place);
      return scene[side].spaces.length > 1 && space.offset === place ? space.name : count(place);
    };
    let free = -Infinity;
    for (const place of ticks(view.x, this.plot.width / view.zoom, scene.keys, 90 / view.zoom)) {
      const x = this.left(place), text = name("keys", place), width = context.measureText(text).width;
      const from = Math.min(Math.max(x - width / 2, LEFT), this.width - width);
      if (from < free) continue;
      context.fillText(text, from, TOP / 2);
      context.fillRect(Math.round(x), TOP - 5, 1, 4);
      free = from + width + 8;
    }
    free = -Infinity;
    const tall = view.zoom * this.stretch;
    context.textAlign = "right";
    for (const place of ticks(view.y, this.plot.height / tall, scene.queries, 44 / tall)) {
      const y = Math.min(Math.max(this.top(place), TOP + 7), this.height - 7);
      if (y < free) continue;
      context.fillText(name("queries", place), LEFT - 9, y, LEFT - 12);
      context.fillRect(LEFT - 5, Math.round(this.top(place)), 4, 1);
      free = y + 16;
    }
    context.textAlign = "left";
    context.fillText("q \u2193 k \u2192", 4, TOP / 2);
  }

  // Pointers and keys

  listen() {
    const { canvas } = this, pointers = new Map();
    let moved = 0;
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0016)), ...point(event));
      this.hover(point(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, point(event));
      moved = pointers.size > 1 ? Infinity : 0;
      this.hover(point(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = point(event), before = pointers.get(event.pointerId);
      if (!before) return this.hover([x, y]);
      const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      pointers.set(event.pointerId, [x, y]);
      moved += Math.hypot(x - before[0], y - before[1]);
      if (others.length === 1) {
        const [[a, b]] = others;
        this.zoomBy(Math.hypot(x - a, y - b) / Math.max(1, Math.hypot(before[0] - a, before[1] - b)), (x + a) / 2, (y + b) / 2);
      } else if (moved > 4 && others.length === 0) {
        canvas.classList.add("dragged");
        this.pan(x - before[0], y - before[1]);
        this.leave();
      }
    });
    const up = (event) => {
      const known = pointers.delete(event.pointerId);
      canvas.classList.remove("dragged");
      const pair = this.at(...point(event));
      if (known && event.type === "pointerup" && moved <= 4 && pair) this.choose(pair);
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.cursor = null;
      this.redraw();
    });
  }

  hover([x, y]) {
    const pair = this.at(x, y);
    if (!pair) return this.leave();
    this.hovered = pair;
    this.act.hover(pair, x, y);
    this.redraw();
  }

  leave() {
    this.hovered = null;
    this.act.hover(null);
    this.redraw();
  }

  choose(pair) {
    this.act.choose(pair);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey) return;
    const arrows = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const around = this.cursor && [this.left(this.cursor.key + 0.5), this.top(this.cursor.query + 0.5)];
    if (arrows && event.altKey) this.pan(-60 * arrows[1], -60 * arrows[0]);
    else if (arrows) this.step(...arrows, event.shiftKey);
    else if (event.key === "+" || event.key === "=") this.glide(1.6, ...(around ?? []));
    else if (event.key === "-" || event.key === "_") this.glide(1 / 1.6, ...(around ?? []));
    else if (event.key === "0" || event.key === "Home") this.whole();
    else if (event.key === "Enter" || event.key === " ") this.choose(this.cursor ?? this.start());
    else if (event.key === "Escape") this.act.choose(null);
    else return;
    event.preventDefault();
  }

  /** The pair in the middle of what is seen. */
  start() {
    const { width, height } = this.plot, { queries, keys } = this.scene;
    return this.at(LEFT + width / 2, TOP + height / 2) ?? { query: queries.length >> 1, key: keys.length >> 1 };
  }

  /** The cursor to the next pair; where tokens are smaller than pixels, to the next pixel; or to the next tile. */
  step(down, across, tile) {
    const { scene, view } = this;
    const rows = tile ? scene.block[0] : Math.max(1, Math.round(2 / (view.zoom * this.stretch)));
    const columns = tile ? scene.block[1] : Math.max(1, Math.round(2 / view.zoom));
    const from = this.cursor, inside = (place, length) => Math.min(Math.max(place, 0), length - 1);
    this.cursor = from === null ? this.start() : {
      query: inside(from.query + down * rows, scene.queries.length),
      key: inside(from.key + across * columns, scene.keys.length),
    };
    this.reveal(this.cursor);
    this.act.move(this.cursor);
  }
}

/** Round places of a side to name, at least so many tokens apart, and where its spaces begin. */
function ticks(from, room, { length, spaces }, apart) {
  let step = 1;
  while (step < apart) step *= 2;
  const last = Math.min(length - 1, from + room), places = spaces.slice(1).map((space) => space.offset);
  for (let at = Math.max(0, Math.ceil(from / step) * step); at <= last; at += step)
    if (spaces.slice(1).every((space) => at < space.offset - step / 2 || at > space.offset + step / 2)) places.push(at);
  return places.filter((place) => place >= from && place <= last).sort((a, b) => a - b);
}
