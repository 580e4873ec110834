// Finds the lines of the pattern that decide about a pair, and their deciding operands.

/** The operand that decides a relation: the first that fails, or the first alternative that holds; of a conditional
 * the branch that is taken. */
function decisive(clause, value) {
  if (clause.operator === "if") return decisive(clause.operands[value(clause.operands[0]) ? 1 : 2], value);
  const holds = value(clause);
  const deciding = { and: false, or: true }[clause.operator];
  const inner = deciding === holds && clause.operands.find((each) => value(each) === deciding);
  return inner ? decisive(inner, value) : clause;
}

/** Whether a pair attends, the value of every line, and the deciding lines: the line that allows it, the line that
 * forbids it, or all lines that could have allowed it. */
function explained(clauses, value) {
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
