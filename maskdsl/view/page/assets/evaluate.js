// The program of `program.py` on many pairs at a time: one column of values for each instruction.

const CHUNK = 2048;

class Evaluator {
  /** `columns` has for each side the values of coordinates by name, one array for each class of heads or for all;
   * `tables` the inputs read by index, each with its `shape` and `values`. */
  constructor(model, columns, tables) {
    this.code = model.code;
    this.heads = model.classes.map((each) => each.head);
    this.columns = columns;
    this.tables = tables;
    this.registers = this.code.map(({ wide }) => (wide ? new Array(CHUNK).fill(0n) : new Float64Array(CHUNK)));
    this.orders = new Map();
    this.code.forEach((each, number) => {
      if (each.op === "constant") this.registers[number].fill(each.wide ? BigInt(each.value) : Number(each.value));
    });
    this.places = { query: new Int32Array(CHUNK), key: new Int32Array(CHUNK) };
  }

  /** The instructions that one needs, operands first. */
  needed(root) {
    if (!this.orders.has(root)) {
      const seen = new Set();
      const visit = (number) => {
        if (seen.has(number)) return;
        for (const each of this.code[number].args ?? []) visit(each);
        seen.add(number);
      };
      visit(root);
      this.orders.set(root, [...seen]);
    }
    return this.orders.get(root);
  }

  /** The values of an instruction for the first `count` pairs of `places`, in one class of heads. Valid until the
   * next call. */
  run(root, count, head) {
    for (const number of this.needed(root)) this.step(number, count, head);
    return this.registers[root];
  }

  /** Whether single pairs attend, or what an instruction gives for one: positions as declared. */
  one(root, query, key, head) {
    this.places.query[0] = query;
    this.places.key[0] = key;
    return this.run(root, 1, head)[0];
  }

  step(number, count, head) {
    const each = this.code[number], result = this.registers[number];
    const parts = (each.args ?? []).map((part) => this.registers[part]);
    switch (each.op) {
      case "constant":
        return;
      case "head":
        result.fill(this.heads[head], 0, count);
        return;
      case "coordinate":
        this.read(result, this.places[each.side], this.values(each, head), count, each.wide);
        return;
      case "member": {
        const places = this.places[each.side];
        for (let i = 0; i < count; i++) result[i] = places[i] >= each.start && places[i] < each.end ? 1 : 0;
        return;
      }
      case "read":
        this.lookUp(result, this.tables[each.table], parts, count, each.open);
        return;
    }
    if (each.op in VARIADIC) VARIADIC[each.op](result, count, parts);
    else if (each.wide || each.args.some((part) => this.code[part].wide)) this.stepWide(each, result, parts, count);
    else OPERATORS[each.op](result, count, ...parts, each.float);
  }

  stepWide(each, result, parts, count) {
    const operate = WIDE[each.op];
    for (let i = 0; i < count; i++) {
      const value = operate(...parts.map((part) => (typeof part[i] === "bigint" ? part[i] : BigInt(part[i]))));
      result[i] = each.wide ? value : Number(value);
    }
  }

  values({ side, name }, head) {
    if (name === "i") return null;
    const arrays = this.columns[side][name];
    return arrays.length > 1 ? arrays[head] : arrays[0];
  }

  read(result, places, values, count, wide) {
    if (wide) for (let i = 0; i < count; i++) result[i] = BigInt(values === null ? places[i] : values[places[i]]);
    else if (values === null) for (let i = 0; i < count; i++) result[i] = places[i];
    else if (values instanceof BigInt64Array) for (let i = 0; i < count; i++) result[i] = Number(values[places[i]]);
    else for (let i = 0; i < count; i++) result[i] = values[places[i]];
  }

  /** An index out of bounds is moved to the border; where inputs decide it, and so nobody has proved it for pairs that
   * attend, a float is NaN there. */
  lookUp(result, { shape, values }, indices, count, open) {
    for (let i = 0; i < count; i++) {
      let at = 0, outside = false;
      for (let axis = 0; axis < shape.length; axis++) {
        const index = Number(indices[axis][i]), inside = Math.min(Math.max(index, 0), shape[axis] - 1);
        outside ||= index !== inside;
        at = at * shape[axis] + inside;
      }
      result[i] = open && outside ? NaN : Number(values[at]);
    }
  }
}
