// Finds the lines of the pattern that decide about a pair, and their deciding operands, and what becomes of its score.

/** The operand that decides a relation: the first that fails, or the first alternative that holds; of a conditional
 * the branch that is taken. */
function decisive(clause, value) {
  if (clause.operator === "if") return decisive(clause.operands[value(clause.operands[0]) ? 1 : 2], value);
  const holds = value(clause);
  const deciding = { and: false, or: true }[clause.operator];
  const inner = deciding === holds && clause.operands.find((each) => value(each) === deciding);
  return inner ? decisive(inner, value) : clause;
}

/** As `explainedLines`, for all branches, each with its own reason: a pair attends if it does in some branch. A pattern
 * without branches is one, without a name. */
function explained(branches, value) {
  const all = branches.map((branch) => ({ ...branch, ...explainedLines(branch.clauses, value) }));
  const allowed = all.some((branch) => branch.allowed);
  return { allowed, branches: all, deciding: all.filter((branch) => branch.allowed === allowed).flatMap((branch) => branch.deciding) };
}

/** Whether a pair attends, the value of every line, and the deciding lines: the line that allows it, the line that
 * forbids it, or all lines that could have allowed it. */
function explainedLines(clauses, value) {
  const lines = clauses.map((clause) => ({
    ...clause,
    holds: value(clause.relation),
    decisive: decisive(clause.relation, value),
  }));
  const attends = lines.filter((line) => line.kind === "attend");
  const broken = lines.filter((line) => line.kind === "require" && !line.holds);
  const allowing = attends.filter((line) => line.holds);
  if (allowing.length === 0) return { allowed: false, lines, deciding: attends };
  if (broken.length > 0) return { allowed: false, lines, deciding: broken.slice(0, 1) };
  return { allowed: true, lines, deciding: allowing.slice(0, 1) };
}

/** The text of an expression whose known parts stand for their values: `s - 3.5`. `parts` are as in `clauses.py`. */
function valued(parts, value) {
  if (!Array.isArray(parts)) return valued(value(parts.if) ? parts.then : parts.else, value);
  return parts.map((part) => (typeof part === "string" ? part : plain(value(part)))).join("");
}

/** Integers exactly, floats with four digits. */
function plain(value) {
  if (typeof value === "bigint" || Number.isInteger(value)) return String(value);
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : { Infinity: "inf", "-Infinity": "-inf" }[value] ?? "nan";
}
