// The panels beside the map: the pair, the figures, the pattern's text with the deciding lines, the legend.

const byId = (id) => document.getElementById(id);
const MOST_BRANCHES = 8;
const LONGEST_VALUE = 100;

/** A pair: a table of its two tokens, the verdict, and every line about it. `names` are the names of the two sides. */
function showPair(pair, queries, keys, head) {
  const box = byId("pair");
  box.replaceChildren();
  if (pair === null) {
    box.append(element("p", { class: "quiet" }, matchMedia("(pointer: coarse)").matches ? "Tap the map: the pair is described here, and the keys of its query light up." : "Point at the map, or move over it with the arrow keys."));
    return markLines(null);
  }
  const { reason, number } = pair;
  box.append(verdict(reason.allowed));
  box.append(element("span", { class: "quiet" }, `  in ${{ empty: "an empty", partial: "a partial", full: "a full" }[pair.tile]} tile`));
  if (pair.ranks) box.append(element("p", { id: "pair-ranks" }, pair.ranks));
  box.append(tokensTable(queries.facts(pair.query, head), keys.facts(pair.key, head)));
  for (const branch of reason.branches) {
    if (reason.branches.length > MOST_BRANCHES && !branch.allowed) continue;
    if (branch.name) box.append(branchTitle(branch));
    box.append(linesOf(branch));
    if (branch.allowed && branch.probability) box.append(scoresOf(branch, number));
  }
  return markLines(reason);
}

function branchTitle({ name, allowed }) {
  const title = element("h3", { class: allowed ? "holds" : "fails" }, `${allowed ? "\u2713" : "\u2717"} branch ${name}`);
  title.setAttribute("aria-label", `branch ${name} ${allowed ? "attends" : "does not attend"}`);
  return title;
}

/** Every line about the pair, whether it holds, and what decides. */
function linesOf(branch) {
  const list = element("ul", { class: "lines" });
  for (const line of branch.lines) {
    if (line.pool && line.holds) continue;
    const row = element("li", { class: branch.deciding.includes(line) ? "deciding" : "" });
    row.append(element("span", { class: line.holds ? "holds" : "fails", "aria-label": line.holds ? "holds" : "does not hold" }, line.holds ? "\u2713" : "\u2717"));
    row.append(element("span", { class: "quiet" }, `line ${line.line}`));
    row.append(marked(line, branch));
    list.append(row);
  }
  return list;
}

/** What becomes of the score of a pair: the lines about it, with their values, and what makes its probability. */
function scoresOf(branch, number) {
  const list = element("ul", { class: "lines scores" });
  for (const { line, text, parts } of branch.scores) {
    const row = element("li"), code = element("code", {}, text), value = parts === null ? "" : valued(parts, number);
    row.append(element("span"), element("span", { class: "quiet" }, `line ${line}`), code);
    if (value && value.length <= LONGEST_VALUE && value !== text.replace(/^\S+\s+/, "")) code.append(element("b", {}, ` = ${value}`));
    list.append(row);
  }
  const last = element("li");
  last.append(element("span"), element("span", { class: "quiet" }), element("span", { class: "quiet" }, `probability: ${branch.probability}`));
  list.append(last);
  return list;
}

/** What makes probabilities, in a sentence for all branches that have it alike. */
function probabilities(branches) {
  const names = new Map();
  for (const { name, probability } of branches) if (probability) names.set(probability, [...(names.get(probability) ?? []), name]);
  return [...names].map(([text, [first, ...others]]) => {
    const whose = others.length + 1 === branches.length ? "" : ` in ${[first, ...others].join(", ")}`;
    return `probability${whose}: ${text}`;
  });
}

function verdict(allowed) {
  return element("span", { class: `verdict ${allowed ? "allow" : "forbid"}` }, allowed ? "\u2713 attends" : "\u2717 does not attend");
}

function tokensTable(query, key) {
  const names = [...new Set([...query, ...key].map(([name]) => name))];
  const values = [new Map(query), new Map(key)];
  const table = element("table", { class: "tokens" }), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const name of ["", "query", "key"]) head.append(element("th", { scope: "col" }, name));
  for (const name of names) {
    const row = body.insertRow();
    row.append(element("th", { scope: "row" }, name));
    for (const each of values) row.insertCell().textContent = each.get(name) ?? "\u2013";
  }
  return table;
}

/** The text of a line with its deciding operand marked. */
function marked(line, reason) {
  const code = element("code", { class: line.holds ? "allow" : "forbid" }), { decisive } = line;
  const at = line.text.indexOf(decisive.text);
  if (!reason.deciding.includes(line) || at < 0) {
    code.append(line.text);
    return code;
  }
  code.append(line.text.slice(0, at), element("mark", {}, decisive.text), line.text.slice(at + decisive.text.length));
  return code;
}

/** The reason in words: `line 6 allows it: window(size)`. */
function reasonText(reason) {
  const [first] = reason.deciding, lines = [...new Set(reason.deciding.map((line) => line.line))];
  if (reason.allowed) return `line ${first.line} allows it: ${first.decisive.text}`;
  if (lines.length > 1) return `none of lines ${lines.join(", ")} allows it`;
  return `line ${first.line} forbids it: ${first.decisive.text}`;
}

function showSource({ file, first, lines }) {
  byId("file").textContent = file;
  byId("source").replaceChildren(
    ...lines.map((text, number) => {
      const line = element("li", { id: `line-${first + number}` });
      line.append(element("span", { class: "number", "aria-hidden": "true" }, String(first + number)), element("code", {}, text));
      return line;
    }),
  );
}

/** Routes with their scores written out, and whether later tokens have a say in what they select. */
function showSelected(selected) {
  byId("selection").hidden = selected.length === 0;
  byId("selected").replaceChildren(
    ...selected.flatMap(([text, said]) => {
      const lines = said.map(() => element("dd", {}));
      lines.forEach((line, number) => line.append(...prose(said[number])));
      return [element("dt", {}, text), ...lines];
    }),
  );
}

function markLines(reason) {
  for (const line of byId("source").children) line.className = "";
  if (reason === null) return;
  for (const line of reason.deciding) {
    const count = line.text.split("\n").length;
    for (let at = line.line; at < line.line + count; at++) byId(`line-${at}`)?.classList.add(reason.allowed ? "allow" : "forbid");
  }
}

/** Text, with code between backticks. */
function prose(text) {
  return text.split("`").map((text, number) => (number % 2 ? element("code", {}, text) : text));
}

const FIGURES = [
  ["density", (each) => percent(each.density), "large"],
  ["tiles computed", (each) => percent(each.block_density)],
  ["full tiles", (each) => count(each.full_tiles)],
  ["partial tiles", (each) => count(each.partial_tiles)],
  ["empty tiles", (each) => count(each.tiles - each.full_tiles - each.partial_tiles)],
  ["waste", (each) => percent(each.waste)],
  ["keys: fewest", (each) => count(each.least_keys)],
  ["keys: median", (each) => value(each.median_keys)],
  ["keys: most", (each) => count(each.most_keys)],
  ["forward", (each) => scaled(each.forward_flops, "FLOP")],
  ["backward", (each) => scaled(each.backward_flops, "FLOP")],
  ["speed-up, at most", (each) => times(each.speedup_bound)],
];

/** A column for one of the heads shown and, if there are several, one for all. */
function showFigures(columns) {
  const table = byId("figures");
  table.replaceChildren();
  const head = table.createTHead().insertRow();
  for (const name of ["", ...columns.map(([each]) => each)]) head.append(element("th", { scope: "col" }, name));
  const body = table.createTBody();
  for (const [name, text, kind] of FIGURES) {
    const row = body.insertRow();
    if (kind) row.className = kind;
    row.append(element("th", { scope: "row" }, name));
    for (const [, figures] of columns) row.insertCell().textContent = text(figures);
  }
}

/** The share of the map that is drawn, while it is not all of it. */
function showProgress(share) {
  const box = byId("progress"), percent = Math.floor(100 * share);
  box.hidden = share === 1;
  box.textContent = `${percent} % drawn`;
}

/** The map in words. */
function summaryText(figures, block, keys, ranks) {
  const [least, most] = [count(figures.least_keys), count(figures.most_keys)];
  const range = least === most ? `exactly ${least}` : `${least} to ${most}`;
  const empty = figures.tiles - figures.full_tiles - figures.partial_tiles;
  return (
    `A query attends ${range} of ${count(keys)} keys, ${percent(figures.density)} of all pairs. Of the tiles of ` +
    `${block.join(" × ")} tokens ${count(figures.full_tiles)} are full, ${count(figures.partial_tiles)} partial and ` +
    `${count(empty)} empty; ${percent(figures.waste)} of the pairs computed are masked.${ranks === null ? "" : ` ${ranks.plan.words}`}`
  );
}

/** What colours stand for; `ranks` are those of the plan that is shown, or null. */
function showLegend(colours, ranks) {
  const swatches = ranks !== null ? rankSwatches(colours, ranks.plan) : [
    ["empty tile: skipped", () => colours.empty],
    ["masked pair of a partial tile: computed for nothing", () => colours.masked],
    ["partial: few to all pairs attend", (share) => colours.shade(share), 56],
    ["full tile", () => colours.full],
  ];
  byId("legend").replaceChildren(
    ...swatches.map(([text, shade, width = 16]) => {
      const item = element("li"), canvas = element("canvas", { "aria-hidden": "true" }), context = canvas.getContext("2d");
      canvas.width = width;
      canvas.height = 14;
      for (let x = 0; x < width; x++) {
        context.fillStyle = css(shade(x / (width - 1)));
        context.fillRect(x, 0, 1, 14);
      }
      item.append(canvas, text);
      return item;
    }),
  );
}

/** The ranks of each colour, strong and pale. */
function rankSwatches(colours, { colours: names }) {
  const shade = (at) => (share) => colours.ranks[1 + at + (share < 0.5 ? 0 : RANK_COLOURS)];
  return [...names.map((name, at) => [name, shade(at), 32]), ["masked pair: computed for nothing", () => colours.idle]];
}
