// The view of the map: the position of its left and top edge in tokens, and the pixels of a key. Knows no canvas.

const LEFT = 58, TOP = 26;
const LARGEST_TOKEN = 40;

class View {
  constructor() {
    Object.assign(this, { x: 0, y: 0, zoom: 0, queries: 0, keys: 0, stretch: 1, width: 0, height: 0, ratio: 1 });
  }

  /** Sets the numbers of tokens; returns true if they changed. If one side is much longer, both are drawn equally long. */
  of(queries, keys) {
    const changed = queries !== this.queries || keys !== this.keys, ratio = keys / queries;
    Object.assign(this, { queries, keys, stretch: ratio > 4 || ratio < 0.25 ? ratio : 1 });
    return changed;
  }

  /** Sets the size in pixels; `ratio` is the number of screen pixels for each. The visible region stays. */
  resize(width, height, ratio) {
    const whole = this.zoom === 0 || this.isWhole;
    Object.assign(this, { width, height, ratio });
    if (whole) this.showWhole();
    else this.clamp();
  }

  get plotWidth() {
    return this.width - LEFT;
  }

  get plotHeight() {
    return this.height - TOP;
  }

  /** Pixels of a query. */
  get tall() {
    return this.zoom * this.stretch;
  }

  /** The number of keys that fit. */
  get across() {
    return this.plotWidth / this.zoom;
  }

  get down() {
    return this.plotHeight / this.tall;
  }

  get wholeZoom() {
    return Math.min(this.plotWidth / this.keys, this.plotHeight / (this.queries * this.stretch), LARGEST_TOKEN);
  }

  get isWhole() {
    return this.zoom <= this.wholeZoom * 1.001;
  }

  showWhole() {
    this.zoom = this.wholeZoom;
    this.clamp();
  }

  /** Moves the view inside its bounds; a map smaller than the plot is centred. */
  clamp() {
    this.zoom = Math.min(Math.max(this.zoom, this.wholeZoom), LARGEST_TOKEN / Math.min(1, this.stretch));
    const inside = (at, room, length) => (room >= length ? (length - room) / 2 : Math.min(Math.max(at, 0), length - room));
    this.x = inside(this.x, this.across, this.keys);
    this.y = inside(this.y, this.down, this.queries);
  }

  left(key) {
    return LEFT + (key - this.x) * this.zoom;
  }

  top(query) {
    return TOP + (query - this.y) * this.tall;
  }

  /** The pair of laid-out positions at a point of the canvas; null outside. */
  at(x, y) {
    const key = Math.floor((x - LEFT) / this.zoom + this.x), query = Math.floor((y - TOP) / this.tall + this.y);
    const inside = x >= LEFT && y >= TOP && key >= 0 && query >= 0 && key < this.keys && query < this.queries;
    return inside ? { query, key } : null;
  }

  /** The pair in the middle of the view. */
  get middle() {
    return this.at(LEFT + this.plotWidth / 2, TOP + this.plotHeight / 2) ?? { query: this.queries >> 1, key: this.keys >> 1 };
  }

  /** Zooms around a point, which stays in place. */
  zoomBy(factor, x = LEFT + this.plotWidth / 2, y = TOP + this.plotHeight / 2) {
    const key = (x - LEFT) / this.zoom + this.x, query = (y - TOP) / this.tall + this.y;
    this.zoom *= factor;
    this.clamp();
    this.x = key - (x - LEFT) / this.zoom;
    this.y = query - (y - TOP) / this.tall;
    this.clamp();
  }

  /** Moves the view by so many pixels. */
  pan(x, y) {
    this.x -= x / this.zoom;
    this.y -= y / this.tall;
    this.clamp();
  }

  /** Moves the view so that a pair is visible. */
  reveal({ query, key }) {
    if (key < this.x || key + 1 > this.x + this.across) this.x = key - this.across / 2;
    if (query < this.y || query + 1 > this.y + this.down) this.y = query - this.down / 2;
    this.clamp();
  }
}
