// The page: the choices of the user, and everything that depends on them.

const content = JSON.parse(byId("data").textContent);

class Page {
  constructor(layer, columns, tables, blobs) {
    const model = content.models[layer];
    this.layer = layer;
    this.model = model;
    this.blobs = blobs;
    this.evaluator = new Evaluator(model, columns, tables);
    this.queries = new Tokens(model.queries, columns.query);
    this.keys = new Tokens(model.keys, columns.key);
    this.chosen = { head: 0, order: 0, block: 0, ranks: Math.min(1, model.plans.length) };
    this.query = null;
    this.map = new AttentionMap(byId("map"), {
      hover: (pair, x, y) => this.hover(pair, x, y),
      choose: (pair) => this.choose(pair && this.scene.position("query", pair.query)),
      move: (pair) => this.move(pair),
      progress: (share) => showProgress(share),
    });
  }

  async open() {
    const { model } = this;
    byId("name").textContent = model.name;
    byId("doc").replaceChildren(...prose(model.doc));
    byId("parameters").replaceChildren(
      ...[...model.parameters, ["heads", String(model.heads)]].map(([name, value]) => {
        const item = element("span", {}, `${name} `);
        item.append(element("b", {}, /^\d+$/.test(value) ? count(Number(value)) : value));
        return item;
      }),
    );
    byId("notes").replaceChildren(...model.notes.map((note) => element("li", {}, note)));
    showSource(model.source);
    showSelected(model.selected);
    this.restore();
    this.fillLayers();
    this.fill("head", model.classes.map((each) => each.name));
    this.fill("order", model.orders.map((each) => (each.name === "declared" ? "as declared" : each.name)));
    this.fill("block", model.orders[0].blocks.map((each) => each.size.join(" × ")));
    this.fill("ranks", ["one", ...model.plans.map((each) => each.name)]);
    byId("plans").hidden = model.plans.length === 0;
    byId("in").addEventListener("click", () => this.map.glide(2));
    byId("out").addEventListener("click", () => this.map.glide(1 / 2));
    byId("whole").addEventListener("click", () => this.map.whole());
    byId("clear").addEventListener("click", () => this.choose(null));
    await this.show();
    if (this.query !== null) this.choose(this.query);
  }

  fill(what, names) {
    const select = byId(what);
    select.replaceChildren(...names.map((name, number) => element("option", { value: String(number) }, name)));
    select.value = String(this.chosen[what]);
    select.disabled = names.length === 1;
    select.addEventListener("change", async () => {
      this.chosen[what] = Number(select.value);
      await this.show();
      say(byId("summary").textContent);
    });
  }

  /** The choice of layers of a stack; each has its own model. */
  fillLayers() {
    const select = byId("layer"), { models } = content;
    byId("layers").hidden = models.length === 1;
    select.replaceChildren(...models.map(({ layers, name }, number) => element("option", { value: String(number) }, `${layers.replace(/^layers? /, "")}: ${name}`)));
    select.value = String(this.layer);
    select.addEventListener("change", () => {
      this.layer = Number(select.value);
      this.keep();
      location.reload();
    });
  }

  /** Draws the chosen head, order and tile size. */
  async show() {
    const { model, blobs, chosen: { head, order, block, ranks: number } } = this, layout = model.orders[order], tiles = layout.blocks[block];
    const runs = async (numbers) => {
      const [row, start, end] = await Promise.all(numbers.map((number) => blobs.get(number)));
      return { row, start, end };
    };
    const positions = async (side) => (layout.positions[side][head] === null ? null : blobs.get(layout.positions[side][head]));
    const [full, partial, query, key, ranks] = await Promise.all([
      runs(tiles.maps[head].full), runs(tiles.maps[head].partial), positions("query"), positions("key"),
      number === 0 ? null : Ranks.of(model.plans[number - 1], blobs, head),
    ]);
    const orders = { query, key };
    this.scene = {
      queries: this.queries, keys: this.keys, evaluator: this.evaluator, relation: model.relation,
      block: tiles.size, full, partial, head, orders, ranks,
      position: (side, at) => (orders[side] === null ? at : orders[side][at]),
    };
    const figures = [[model.classes[head].one, tiles.figures[head]]];
    if (model.total !== "a head") figures.push([model.total, tiles.total]);
    showFigures(figures);
    byId("summary").textContent = summaryText(tiles.figures[head], tiles.size, this.keys.length, ranks);
    this.colour();
    this.hover(null);
    showPair(null);
    this.keep();
  }

  colour() {
    const colours = new Colours(content.palettes, document.documentElement.dataset.theme);
    this.colours = colours;
    showLegend(colours, this.scene.ranks);
    this.map.show(this.scene, colours);
    if (this.query !== null) this.light();
  }

  /** The tokens and the reason of a pair of declared positions. */
  pair(query, key) {
    const { head } = this.chosen, number = (node) => this.evaluator.one(node, query, key, head);
    const reason = explained(this.model.branches, (clause) => Boolean(number(clause.node)));
    return { query, key, reason, number };
  }

  /** As `pair`, for laid-out positions, with the class of its tile. */
  pairAt({ query, key }) {
    const { scene } = this, [rows, columns] = scene.block;
    const tile = ["full", "partial"].find((kind) => covers(scene[kind], Math.floor(query / rows), Math.floor(key / columns)));
    const pair = this.pair(scene.position("query", query), scene.position("key", key));
    return { ...pair, tile: tile ?? "empty", ranks: scene.ranks && tile ? scene.ranks.words(pair.query, pair.key) : "" };
  }

  hover(positions, x, y) {
    const tip = byId("tip");
    tip.hidden = positions === null;
    if (positions === null) return;  // the panel keeps the last pair
    const pair = this.pairAt(positions);
    showPair(pair, this.queries, this.keys, this.chosen.head);
    tip.replaceChildren(verdict(pair.reason.allowed), element("div", {}, this.pairText(pair)), element("div", { class: "quiet" }, reasonText(pair.reason)), element("div", { class: "quiet" }, pair.ranks));
    const { width, height } = this.map.view, room = width - tip.offsetWidth - 4, below = y + 18 + tip.offsetHeight < height;
    tip.style.left = `${Math.max(4, Math.min(x + 16, room))}px`;
    tip.style.top = `${below ? y + 18 : y - tip.offsetHeight - 12}px`;
  }

  pairText({ query, key }) {
    return `query ${this.queries.short(query)} \u2192 key ${this.keys.short(key)}`;
  }

  move(positions) {
    const pair = this.pairAt(positions);
    showPair(pair, this.queries, this.keys, this.chosen.head);
    say(`${this.pairText(pair)}: ${pair.reason.allowed ? "attends" : "does not attend"}, ${reasonText(pair.reason)}${pair.ranks && `, ${pair.ranks}`}`);
  }

  /** Highlights the keys of a query, given by its declared position; null for none. */
  choose(query) {
    this.query = query;
    byId("chosen").hidden = query === null;
    this.keep();
    if (query === null) {
      this.map.lit = null;
      this.map.redraw();
      return say("no query is chosen");
    }
    const found = this.light();
    say(`query ${this.queries.short(query)} attends ${count(found)} keys`);
  }

  light() {
    const { query, scene, keys } = this, attended = this.keysOf(query);
    const position = scene.orders.query === null ? query : scene.orders.query.indexOf(query);
    const laid = scene.orders.key === null ? attended : attended.map((_, at) => attended[scene.orders.key[at]]);
    this.map.lit = { position, runs: runsOf(laid) };
    this.map.redraw();
    const found = attended.reduce((sum, each) => sum + each, 0);
    byId("chosen-title").textContent = `Keys of query ${this.queries.short(query)}`;
    const counted = keys.spaces.length > 1 ? [`${count(found)} of ${count(keys.length)} keys attended`] : [];
    byId("chosen-text").replaceChildren(...[...counted, ...probabilities(this.model.branches)].map((text) => element("span", {}, text)));
    byId("grids").replaceChildren(
      ...grids(keys, attended, this.queries.among(keys, query), this.colours, {
        hover: (key) => key !== null && showPair(this.seen(query, key), this.queries, this.keys, this.chosen.head),
        choose: (key) => {
          const twin = key === null ? -1 : keys.among(this.queries, key);
          if (twin >= 0) this.choose(twin);
        },
      }),
    );
    return found;
  }

  /** As `pair`, with the class of its tile. */
  seen(query, key) {
    const { orders } = this.scene, position = (side, at) => (orders[side] === null ? at : orders[side].indexOf(at));
    return this.pairAt({ query: position("query", query), key: position("key", key) });
  }

  /** Whether the query attends each key, 0 or 1, in declared order. */
  keysOf(query) {
    const attended = new Uint8Array(this.keys.length), { positions } = this.evaluator;
    for (let begin = 0; begin < attended.length; begin += CHUNK) {
      const size = Math.min(CHUNK, attended.length - begin);
      positions.query.fill(query, 0, size);
      for (let at = 0; at < size; at++) positions.key[at] = begin + at;
      attended.set(this.evaluator.run(this.model.relation, size, this.chosen.head).subarray(0, size), begin);
    }
    return attended;
  }

  // The choices are kept in the address, after the `#`, for when the page is reloaded.

  keep() {
    const { model, chosen } = this, names = new URLSearchParams({
      head: model.classes[chosen.head].name, order: model.orders[chosen.order].name, block: model.orders[0].blocks[chosen.block].size.join("x"),
    });
    if (model.plans.length > 0) names.set("ranks", chosen.ranks === 0 ? "one" : model.plans[chosen.ranks - 1].name);
    if (this.query !== null) names.set("query", String(this.query));
    if (this.layer > 0) names.set("layer", String(this.layer));
    history.replaceState(null, "", `#${names}`);
  }

  restore() {
    const { model, chosen } = this, names = new URLSearchParams(location.hash.slice(1)), query = Number(names.get("query") ?? NaN);
    const position = (list, name, otherwise) => {
      const found = list.indexOf(name);
      return found < 0 ? otherwise : found;
    };
    chosen.head = position(model.classes.map((each) => each.name), names.get("head"), chosen.head);
    chosen.order = position(model.orders.map((each) => each.name), names.get("order"), chosen.order);
    chosen.block = position(model.orders[0].blocks.map((each) => each.size.join("x")), names.get("block"), chosen.block);
    chosen.ranks = position(["one", ...model.plans.map((each) => each.name)], names.get("ranks"), chosen.ranks);
    if (Number.isInteger(query) && query >= 0 && query < this.queries.length) this.query = query;
  }
}

/** Whether a tile is in one of these runs. */
function covers(runs, row, column) {
  for (let run = runs.row[row]; run < runs.row[row + 1] && runs.start[run] <= column; run++) if (column < runs.end[run]) return true;
  return false;
}

/** The begin and end of each run of ones. */
function runsOf(values) {
  const runs = [];
  for (let at = 0; at < values.length; at++) {
    if (values[at] && !values[at - 1]) runs.push(at);
    if (values[at] && !values[at + 1]) runs.push(at + 1);
  }
  return runs;
}

function say(text) {
  byId("live").textContent = text;
}

async function loaded(layer) {
  const model = content.models[layer], blobs = new Blobs(model.blobs), columns = { query: {}, key: {} }, tables = {};
  for (const [side, { columns: known }] of [["query", model.queries], ["key", model.keys]])
    for (const [name, numbers] of Object.entries(known))
      columns[side][name] = await Promise.all(numbers.map((number) => blobs.get(number)));
  for (const [name, { shape, values }] of Object.entries(model.tables)) tables[name] = { shape, values: await blobs.get(values) };
  return new Page(layer, columns, tables, blobs);
}

async function start() {
  let page = null;
  startTheme(() => page);
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  if (content.watch) watch(content.watch);
  if (content.models.length === 0) return;
  if (typeof DecompressionStream === "undefined") return showProblem("It cannot unpack compressed data. Browsers of 2023 and later can.", "This browser is too old for this page");
  const layer = Number(new URLSearchParams(location.hash.slice(1)).get("layer"));
  page = await loaded(layer in content.models ? layer : 0);
  byId("page").hidden = false;
  await page.open();
  window.maskdsl = page;
}

start();
