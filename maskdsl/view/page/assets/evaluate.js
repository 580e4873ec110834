// Runs the instructions of `page_program.py` on many pairs at a time: one column of values for each instruction.

const CHUNK = 2048;

class Evaluator {
  /** `columns` has the values of coordinates by side and name, one array for each head class or one for all;
   * `tables` has the inputs read by index, each with its `shape` and `values`. */
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
    this.positions = { query: new Int32Array(CHUNK), key: new Int32Array(CHUNK) };
  }

  /** The instructions that an instruction needs, operands first. */
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

  /** The values of an instruction for the first `count` pairs of `positions`, in one head class. Valid until the
   * next call. */
  run(root, count, head) {
    for (const number of this.needed(root)) this.step(number, count, head);
    return this.registers[root];
  }

  /** The value of an instruction for one pair of declared positions. */
  one(root, query, key, head) {
    this.positions.query[0] = query;
    this.positions.key[0] = key;
    return this.run(root, 1, head)[0];
  }

  step(number, count, head) {
    const each = this.code[number], result = this.registers[number];
    const operands = (each.args ?? []).map((operand) => this.registers[operand]);
    switch (each.op) {
      case "constant":
        return;
      case "head":
        result.fill(this.heads[head], 0, count);
        return;
      case "coordinate":
        this.read(result, this.positions[each.side], this.values(each, head), count, each.wide);
        return;
      case "member": {
        const positions = this.positions[each.side];
        for (let i = 0; i < count; i++) result[i] = positions[i] >= each.start && positions[i] < each.end ? 1 : 0;
        return;
      }
      case "read":
        this.lookUp(result, this.tables[each.table], operands, count, each.open);
        return;
      case "entry":
        this.find(result, this.tables[each.table], operands, count);
        return;
    }
    if (each.op in VARIADIC) VARIADIC[each.op](result, count, operands);
    else if (each.wide || each.args.some((operand) => this.code[operand].wide)) this.stepWide(each, result, operands, count);
    else OPERATORS[each.op](result, count, ...operands, each.float);
  }

  stepWide(each, result, operands, count) {
    const operate = WIDE[each.op], asNeeded = each.float ? (x) => x : BigInt;
    for (let i = 0; i < count; i++) {
      const value = operate(...operands.map((operand) => asNeeded(operand[i])));
      result[i] = each.wide ? value : Number(value);
    }
  }

  values({ side, name }, head) {
    if (name === "i") return null;
    const arrays = this.columns[side][name];
    return arrays.length > 1 ? arrays[head] : arrays[0];
  }

  read(result, positions, values, count, wide) {
    if (wide) for (let i = 0; i < count; i++) result[i] = BigInt(values === null ? positions[i] : values[positions[i]]);
    else if (values === null) for (let i = 0; i < count; i++) result[i] = positions[i];
    else if (values instanceof BigInt64Array) for (let i = 0; i < count; i++) result[i] = Number(values[positions[i]]);
    else for (let i = 0; i < count; i++) result[i] = values[positions[i]];
  }

  /** Clamps an index that is out of bounds. If inputs decide the index, nothing proves that it is inside for pairs that
   * attend, so a float read outside is NaN. */
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

  /** The number of the entry at a row and a column, by a binary search in the row; -1 if there is none. A list is the
   * number of rows, the steps of a search, where the columns of each row start, and the columns. */
  find(result, { shape, values }, indices, count) {
    const front = shape.length - 1, rows = Number(values[0]);
    for (let i = 0; i < count; i++) {
      let first = 0;
      for (let axis = 0; axis < front; axis++)
        first = first * shape[axis] + Math.min(Math.max(Number(indices[axis][i]), 0), shape[axis] - 1);
      first = first * shape[front] + 2;
      const row = Number(indices[front][i]), column = Number(indices[front + 1][i]);
      result[i] = -1;
      if (row < 0 || row >= rows) continue;
      let low = Number(values[first + row]), high = Number(values[first + row + 1]);
      const end = high, columns = first + rows + 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (values[columns + middle] < column) low = middle + 1;
        else high = middle;
      }
      if (low < end && Number(values[columns + low]) === column) result[i] = low;
    }
  }
}
