// Draws the visible map: patches, borders, the keys of a query, a cross, rulers, and the whole map in a corner.

const INSET = 84;
const HOLDERS = 5;

class Picture {
  constructor(canvas, view) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.view = view;
    this.wholeLevel = 0;
  }

  /** Sets the scene to draw. */
  show(scene, colours) {
    Object.assign(this, { scene, colours, patches: new Patches(scene, colours) });
  }

  /** Draws everything. `lit` has the position of the chosen query and the runs of its keys; `pairs` are the cursor and the
   * pair under the pointer. Returns true if patches are missing. */
  draw(lit, cursor, hovered) {
    const { context, colours, view } = this;
    context.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    context.fillStyle = colours.card;
    context.fillRect(0, 0, view.width, view.height);
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP, view.plotWidth, view.plotHeight);
    context.clip();
    this.drawUndrawn();
    const missing = this.drawPatches();
    this.drawLines();
    if (lit) this.drawLit(lit);
    this.drawCross(cursor, colours.accent);
    this.drawCross(hovered, colours.text);
    if (!view.isWhole) this.drawInset();
    context.restore();
    if (this.scene.ranks) this.drawHolders();
    this.drawRulers();
    return missing;
  }

  /** Draws the patches at the level of about a screen pixel, and requests missing ones, the middle first. */
  drawPatches() {
    const { view } = this, detail = Math.log2(1 / (Math.max(view.zoom, view.tall) * view.ratio));
    const level = Math.max(0, Math.round(detail)), size = PATCH * 2 ** level;
    const range = (at, room, length) => [
      Math.max(0, Math.floor(at / size)),
      Math.min(Math.ceil(length / size), Math.ceil((at + room) / size)),
    ];
    const columns = range(view.x, view.across, view.keys), rows = range(view.y, view.down, view.queries);
    const wanted = [];
    for (let row = rows[0]; row < rows[1]; row++)
      for (let column = columns[0]; column < columns[1]; column++)
        if (!this.drawPatch(level, row, column, size)) {
          wanted.push([level, row, column]);
          this.drawCoarser(level, row, column, size);
        }
    this.drawn = 1 - wanted.length / Math.max(1, (rows[1] - rows[0]) * (columns[1] - columns[0]));
    if (view.isWhole) this.wholeLevel = level;
    const middle = [(rows[0] + rows[1] - 1) / 2, (columns[0] + columns[1] - 1) / 2];
    const far = ([, row, column]) => Math.hypot(row - middle[0], column - middle[1]);
    this.patches.wanted = wanted.sort((a, b) => far(a) - far(b));
    this.canvas.dataset.level = String(level);
    this.context.imageSmoothingEnabled = true;
    return wanted.length > 0;
  }

  /** Fills the map with stripes, which stay where no patch is painted yet. */
  drawUndrawn() {
    const { context, view, colours } = this, side = Math.round(8 * view.ratio);
    const stripes = document.createElement("canvas"), pen = stripes.getContext("2d");
    stripes.width = stripes.height = side;
    pen.fillStyle = css(colours.empty);
    pen.fillRect(0, 0, side, side);
    pen.strokeStyle = css(colours.undrawn);
    pen.lineWidth = side / 3;
    for (const start of [-side, 0, side]) {
      pen.moveTo(start - 1, side + 1);
      pen.lineTo(start + side + 1, -1);
    }
    pen.stroke();
    context.fillStyle = context.createPattern(stripes, "repeat");
    const [left, top] = [Math.max(LEFT, view.left(0)), Math.max(TOP, view.top(0))];
    context.fillRect(left, top, view.left(view.keys) - left, view.top(view.queries) - top);
  }

  drawPatch(level, row, column, size) {
    const patch = this.patches.get(level, row, column);
    if (!patch) return false;
    const { context, view } = this;
    const right = Math.min((column + 1) * size, view.keys), bottom = Math.min((row + 1) * size, view.queries);
    const [x, y] = [this.snap(view.left(column * size)), this.snap(view.top(row * size))];
    context.imageSmoothingEnabled = level > 0 || view.zoom * view.ratio < 1;
    context.drawImage(patch, x, y, this.snap(view.left(right)) - x, this.snap(view.top(bottom)) - y);
    return true;
  }

  /** Draws a coarser patch until the patch is painted. */
  drawCoarser(level, row, column, size) {
    const { context, view } = this;
    for (let up = 1; up <= 4; up++) {
      const patch = this.patches.get(level + up, row >> up, column >> up);
      if (!patch) continue;
      const share = PATCH / 2 ** up, x = (column % 2 ** up) * share, y = (row % 2 ** up) * share;
      const right = Math.min((column + 1) * size, view.keys), bottom = Math.min((row + 1) * size, view.queries);
      const wide = Math.min(share, patch.width - x), high = Math.min(share, patch.height - y);
      const [left, top] = [view.left(column * size), view.top(row * size)];
      context.imageSmoothingEnabled = false;
      context.drawImage(patch, x, y, wide, high, left, top, view.left(right) - left, view.top(bottom) - top);
      return;
    }
  }

  /** Rounds to whole pixels of the screen, so that patches leave no gaps. */
  snap(position) {
    return Math.round(position * this.view.ratio) / this.view.ratio;
  }

  /** Draws borders of the map and of spaces, and of tokens and tiles if they are large enough. */
  drawLines() {
    const { context, view, scene: { block, queries, keys } } = this, { ink } = this.colours;
    const room = (pixels, least) => Math.min(1, Math.max(0, (pixels - least) / least));
    this.drawGrid(1, 1, css(ink, 0.08 * room(Math.min(view.zoom, view.tall), 7)));
    this.drawGrid(...block, css(ink, 0.2 * room(Math.min(view.zoom * block[1], view.tall * block[0]), 12)));
    const [left, top] = [view.left(0), view.top(0)].map((position) => Math.round(position) + 0.5);
    context.strokeStyle = css(ink, 0.22);
    context.lineWidth = 1;
    context.strokeRect(left, top, Math.round(view.left(view.keys)) - left - 0.5, Math.round(view.top(view.queries)) - top - 0.5);
    context.strokeStyle = css(ink, 0.55);
    context.beginPath();
    for (const space of keys.spaces.slice(1)) this.vertical(space.offset);
    for (const space of queries.spaces.slice(1)) this.horizontal(space.offset);
    context.stroke();
  }

  /** Draws lines after every so many queries and keys, if they are far enough apart. */
  drawGrid(rows, columns, style) {
    const { context, view } = this;
    if (style.endsWith(" 0)")) return;
    context.strokeStyle = style;
    context.lineWidth = 1;
    context.beginPath();
    const each = (from, room, length, step, line) => {
      const last = Math.min(length, from + room);
      for (let at = Math.max(step, Math.ceil(from / step) * step); at < last; at += step) line(at);
    };
    each(view.x, view.across, view.keys, columns, (key) => this.vertical(key));
    each(view.y, view.down, view.queries, rows, (query) => this.horizontal(query));
    context.stroke();
  }

  vertical(key) {
    const { context, view } = this, x = Math.round(view.left(key)) + 0.5;
    context.moveTo(x, Math.max(TOP, view.top(0)));
    context.lineTo(x, Math.min(view.height, view.top(view.queries)));
  }

  horizontal(query) {
    const { context, view } = this, y = Math.round(view.top(query)) + 0.5;
    context.moveTo(Math.max(LEFT, view.left(0)), y);
    context.lineTo(Math.min(view.width, view.left(view.keys)), y);
  }

  /** Draws the row of the chosen query with its keys as bars, and dims everything else. */
  drawLit({ position, runs }) {
    const { context, view, colours } = this, height = Math.max(view.tall, 10);
    const top = view.top(position) + view.tall / 2 - height / 2;
    const begin = Math.max(0, view.left(0)), end = Math.min(view.width, view.left(view.keys));
    const [first, last] = [Math.max(TOP, view.top(0)), Math.min(view.height, view.top(view.queries))];
    context.fillStyle = css(colours.empty, 0.62);
    context.fillRect(begin, first, end - begin, Math.max(0, top - 1 - first));
    context.fillRect(begin, top + height + 1, end - begin, Math.max(0, last - top - height - 1));
    context.fillStyle = css(colours.empty);
    context.fillRect(begin, top, end - begin, height);
    context.fillStyle = css(colours.full);
    for (let at = 0; at < runs.length; at += 2) {
      const x = view.left(runs[at]), right = view.left(runs[at + 1]);
      if (right >= LEFT && x <= view.width) context.fillRect(x, top, Math.max(right - x, 1), height);
    }
    context.strokeStyle = colours.mark;
    context.lineWidth = 1.5;
    context.strokeRect(begin - 2, top - 1, end - begin + 4, height + 2);
  }

  /** Draws a pair with its row and its column; nothing for null. */
  drawCross(pair, colour) {
    if (!pair) return;
    const { context, view } = this, x = view.left(pair.key), y = view.top(pair.query);
    context.fillStyle = colour;
    context.globalAlpha = 0.1;
    context.fillRect(x, TOP, Math.max(view.zoom, 1), view.plotHeight);
    context.fillRect(LEFT, y, view.plotWidth, Math.max(view.tall, 1));
    context.globalAlpha = 1;
    const [wide, high] = [Math.max(view.zoom, 7), Math.max(view.tall, 7)];
    for (const [style, width] of [[this.colours.card, 4], [colour, 1.5]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.strokeRect(x + view.zoom / 2 - wide / 2, y + view.tall / 2 - high / 2, wide, high);
    }
  }

  /** Draws the whole map in a corner, with the visible region. */
  drawInset() {
    const { context, colours, view } = this, zoom = INSET / Math.max(view.keys, view.queries * view.stretch), tall = zoom * view.stretch;
    const [wide, high] = [Math.max(4, view.keys * zoom), Math.max(4, view.queries * tall)];
    const [left, top] = [view.width - wide - 9.5, view.height - high - 9.5];
    context.fillStyle = css(colours.empty);
    context.fillRect(left, top, wide, high);
    const step = 2 ** this.wholeLevel, size = PATCH * step;
    for (let row = 0; row * size < view.queries; row++)
      for (let column = 0; column * size < view.keys; column++) {
        const patch = this.patches.get(this.wholeLevel, row, column), position = [left + column * size * zoom, top + row * size * tall];
        if (patch) context.drawImage(patch, ...position, patch.width * step * zoom, patch.height * step * tall);
      }
    context.lineWidth = 1;
    context.strokeStyle = colours.quiet;
    context.strokeRect(left, top, wide, high);
    context.lineWidth = 2;
    context.strokeStyle = colours.mark;
    const [w, h] = [view.across * zoom, view.down * tall];
    context.strokeRect(left + view.x * zoom + Math.min(0, w - 4) / 2, top + view.y * tall + Math.min(0, h - 4) / 2, Math.max(w, 4), Math.max(h, 4));
  }

  /** Draws strips along the left and the top of the map: who holds each query and key. */
  drawHolders() {
    const { context, colours, view, scene: { ranks, position } } = this;
    const left = Math.max(LEFT, Math.round(view.left(0))), top = Math.max(TOP, Math.round(view.top(0)));
    const strip = (side, begin, end, at, box) => {
      for (let pixel = Math.floor(begin); pixel < end; pixel++) {
        const colour = Ranks.colourOf(ranks[side === "query" ? "queries" : "keys"][position(side, at(pixel + 0.5))]);
        context.fillStyle = css(colours.ranks[colour]);
        context.fillRect(...box(pixel));
      }
    };
    const inside = (at, length) => Math.min(Math.max(Math.floor(at), 0), length - 1);
    strip("key", left, Math.min(view.width, view.left(view.keys)),
      (x) => inside((x - LEFT) / view.zoom + view.x, view.keys), (x) => [x, top - HOLDERS, 1, HOLDERS]);
    strip("query", top, Math.min(view.height, view.top(view.queries)),
      (y) => inside((y - TOP) / view.tall + view.y, view.queries), (y) => [left - HOLDERS, y, HOLDERS, 1]);
  }

  drawRulers() {
    const { context, colours, view, scene: { queries, keys } } = this;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colours.quiet;
    context.textBaseline = "middle";
    let free = -Infinity;
    for (const position of ticks(view.x, view.across, keys, 90 / view.zoom)) {
      const x = view.left(position), text = tickName(keys, position), width = context.measureText(text).width;
      const from = Math.min(Math.max(x - width / 2, LEFT), view.width - width);
      if (from < free) continue;
      context.fillText(text, from, TOP / 2);
      context.fillRect(Math.round(x), TOP - 5, 1, 4);
      free = from + width + 8;
    }
    free = -Infinity;
    context.textAlign = "right";
    for (const position of ticks(view.y, view.down, queries, 44 / view.tall)) {
      const y = Math.min(Math.max(view.top(position), TOP + 7), view.height - 7);
      if (y < free) continue;
      context.fillText(tickName(queries, position), LEFT - 9, y, LEFT - 12);
      context.fillRect(LEFT - 5, Math.round(view.top(position)), 4, 1);
      free = y + 16;
    }
    context.textAlign = "left";
    context.fillText("q \u2193 k \u2192", 4, TOP / 2);
  }
}

/** Positions of a side to label: round numbers at least so many tokens apart, and the begins of spaces. */
function ticks(from, room, { length, spaces }, apart) {
  let step = 1;
  while (step < apart) step *= 2;
  const begins = spaces.length > 1 ? spaces.map((space) => space.offset) : [], last = Math.min(length - 1, from + room);
  const positions = [...begins];
  for (let at = Math.max(0, Math.ceil(from / step) * step); at <= last; at += step)
    if (begins.every((begin) => Math.abs(at - begin) > step / 2)) positions.push(at);
  return positions.filter((position) => position >= from && position <= last).sort((a, b) => a - b);
}

/** The label of a position: its number, or the name of the space that begins there. */
function tickName({ spaces }, position) {
  const space = spaces.length > 1 && spaces.find((each) => each.offset === position);
  return space ? space.name : count(position);
}
