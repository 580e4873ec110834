// Tokens in words: their spaces and coordinates, and numbers formatted for people.

const count = (number) => number.toLocaleString("en-US");

/** Three significant digits: `12.3`, `0.0512`. */
function digits(value) {
  if (Number.isInteger(value) && Math.abs(value) < 1000) return String(value);
  const before = Math.abs(value) >= 1 ? String(Math.trunc(Math.abs(value))).length : 0;
  return value.toFixed(Math.max(0, 3 - before));
}

/** A percentage. A share above 0 is never shown as 0 %, one below 1 never as 100 %. */
function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.001) return "< 0.001 %";
  if (value >= 99.9 && value < 100) return `${Math.min(value, 99.999).toFixed(3)} %`;
  return `${digits(value)} %`;
}

function scaled(number, unit) {
  let level = 0;
  for (; number >= 1000 && level < 6; level++) number /= 1000;
  return `${digits(number)} ${" kMGTPE"[level].trim()}${unit}`;
}

const times = (factor) => (factor === undefined ? "no bound" : `${digits(factor)} ×`);
const value = (each) => (typeof each === "boolean" ? String(each) : typeof each === "number" && !Number.isInteger(each) ? digits(each) : count(each));

/** One side of the map: its tokens by their declared positions. */
class Tokens {
  constructor(side, columns) {
    this.length = side.length;
    this.spaces = side.spaces;
    this.columns = columns;
  }

  space(position) {
    return this.spaces.find((space) => position < space.offset + space.size);
  }

  coordinate(name, position, head) {
    const arrays = this.columns[name], values = arrays.length > 1 ? arrays[head] : arrays[0];
    return values instanceof Uint8Array ? Boolean(values[position]) : values[position];
  }

  /** Pairs of a name and a value: position, space if there are several, and all coordinates. */
  facts(position, head) {
    const space = this.space(position);
    const facts = [["position", count(position)]];
    if (this.spaces.length > 1) facts.push(["space", space.name]);
    for (const name of space.coordinates)
      if (name !== space.name || this.spaces.length > 1) facts.push([name, value(this.coordinate(name, position, head))]);
    return facts;
  }

  /** The position of the same token in another sequence; -1 if that has no space of its name and size. */
  among(others, position) {
    const space = this.space(position), twin = others.spaces.find((each) => each.name === space.name && each.size === space.size);
    return twin ? twin.offset + position - space.offset : -1;
  }

  /** `image (3, 17)` */
  short(position) {
    const space = this.space(position);
    if (space.axes.length === 1) return this.spaces.length > 1 ? `${space.name} ${count(position - space.offset)}` : count(position);
    return `${this.spaces.length > 1 ? `${space.name} ` : ""}(${cell(space, position - space.offset).join(", ")})`;
  }
}

/** The cell of a token of a space: its index on each axis. */
function cell(space, number) {
  const cell = [];
  for (const [, length] of [...space.axes].reverse()) {
    cell.unshift(number % length);
    number = Math.floor(number / length);
  }
  return cell;
}
