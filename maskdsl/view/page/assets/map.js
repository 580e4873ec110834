// The canvas of the map: redrawing, and events of pointers and keys.

const BUDGET = 9;
const LEGEND = 64;

class AttentionMap {
  /** `act` has the functions called for the pair under the pointer, a chosen query and the cursor: `hover`, `choose`, `move`; and
   * `progress` for the share of the map that is drawn. */
  constructor(canvas, act) {
    this.canvas = canvas;
    this.act = act;
    this.view = new View();
    this.picture = new Picture(canvas, this.view);
    Object.assign(this, { hovered: null, cursor: null, lit: null, animation: null, frame: 0, draws: 0 });
    this.listenToPointers();
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.cursor = null;
      this.redraw();
    });
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  /** Shows another scene; the visible region stays if the lengths are the same. */
  show(scene, colours) {
    this.picture.show(scene, colours);
    this.scene = scene;
    if (this.view.of(scene.queries.length, scene.keys.length)) this.view.zoom = 0;
    this.resize();
  }

  resize() {
    if (!this.scene) return;
    const { canvas, view } = this, width = canvas.parentElement.clientWidth, ratio = devicePixelRatio || 1;
    const natural = ((width - LEFT) * view.queries * view.stretch) / view.keys;
    const height = TOP + Math.round(Math.max(120, Math.min(natural, Math.max(260, this.roomBelow()))));
    view.resize(width, height, ratio);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    this.redraw();
  }

  /** The height that a map may take so that what stands above it and its legend are seen with it. */
  roomBelow() {
    const top = this.canvas.getBoundingClientRect().top + scrollY;
    return innerHeight - top - TOP - LEGEND;
  }

  /** Draws in the next frame, and in the frames after it until all patches are painted. */
  redraw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.canvas.dataset.settled = "";
      this.canvas.classList.toggle("zoomed", !this.view.isWhole);
      const missing = this.picture.draw(this.lit, this.cursor, this.hovered);
      this.act.progress(missing ? this.picture.drawn : 1);
      if (this.picture.patches.work(performance.now() + BUDGET) || missing) this.redraw();
      else this.canvas.dataset.settled = String(++this.draws);
    });
  }

  /** Zooms around a point, animated unless the user prefers reduced motion. */
  glide(factor, x, y) {
    cancelAnimationFrame(this.animation);
    const start = performance.now(), still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let done = 0;
    const step = (now) => {
      const share = still ? 1 : Math.min(1, Math.max(0, (now - start) / 160)), eased = 1 - (1 - share) ** 3;
      this.view.zoomBy(factor ** (eased - done), x, y);
      this.redraw();
      done = eased;
      if (share < 1) this.animation = requestAnimationFrame(step);
    };
    step(start);
  }

  whole() {
    cancelAnimationFrame(this.animation);
    this.view.showWhole();
    this.redraw();
  }

  // Pointers

  listenToPointers() {
    const { canvas, view } = this, pointers = new Map();
    let moved = 0;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      view.zoomBy(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0016)), ...this.point(event));
      this.hover(event);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, this.point(event));
      moved = pointers.size > 1 ? Infinity : 0;
      this.hover(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return this.hover(event);
      const now = this.point(event), other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      pointers.set(event.pointerId, now);
      moved += distance(now, before);
      if (other) this.pinch(before, now, other);
      else if (moved > 4) this.drag(before, now);
    });
    const up = (event) => {
      const known = pointers.delete(event.pointerId), pair = view.at(...this.point(event));
      canvas.classList.remove("dragged");
      if (known && event.type === "pointerup" && moved <= 4 && pair) this.act.choose(pair);
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => this.leave());
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  pinch(before, now, other) {
    const factor = distance(now, other) / Math.max(1, distance(before, other));
    this.view.zoomBy(factor, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    this.redraw();
  }

  drag(before, now) {
    this.canvas.classList.add("dragged");
    this.view.pan(now[0] - before[0], now[1] - before[1]);
    this.leave();
  }

  hover(event) {
    const [x, y] = this.point(event), pair = this.view.at(x, y);
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

  // Keys

  key(event) {
    if (event.ctrlKey || event.metaKey) return;
    const { cursor, view } = this, around = cursor ? [view.left(cursor.key + 0.5), view.top(cursor.query + 0.5)] : [];
    const arrow = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (arrow && event.altKey) {
      view.pan(-60 * arrow[1], -60 * arrow[0]);
      this.redraw();
    } else if (arrow) this.step(...arrow, event.shiftKey);
    else if (event.key === "+" || event.key === "=") this.glide(1.6, ...around);
    else if (event.key === "-" || event.key === "_") this.glide(1 / 1.6, ...around);
    else if (event.key === "0" || event.key === "Home") this.whole();
    else if (event.key === "Enter" || event.key === " ") this.act.choose(cursor ?? view.middle);
    else if (event.key === "Escape") this.act.choose(null);
    else return;
    event.preventDefault();
  }

  /** Moves the cursor to the next pair, to the next pixel if tokens are smaller, or to the next tile. */
  step(down, across, tile) {
    const { view, scene: { block } } = this, from = this.cursor;
    const rows = tile ? block[0] : Math.max(1, Math.round(2 / view.tall));
    const columns = tile ? block[1] : Math.max(1, Math.round(2 / view.zoom));
    const inside = (position, length) => Math.min(Math.max(position, 0), length - 1);
    this.cursor = from === null ? view.middle : {
      query: inside(from.query + down * rows, view.queries),
      key: inside(from.key + across * columns, view.keys),
    };
    view.reveal(this.cursor);
    this.redraw();
    this.act.move(this.cursor);
  }
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
