// Which lines of the pattern decide about a pair, and which part of them.

/** The part of a relation that makes it what it is: the first that fails, or the first alternative that holds; of a
 * choice the branch that is taken. */
function decisive(part, value) {
  if (part.operator === "if") return decisive(part.parts[value(part.parts[0]) ? 1 : 2], value);
  const holds = value(part);
  const deciding = { and: false, or: true }[part.operator];
  const inner = deciding === holds && part.parts.find((each) => value(each) === deciding);
  return inner ? decisive(inner, value) : part;
}

/** Whether a pair attends, what every line says, and those that decide: the line that allows it, the one that forbids
 * it, or all that could have allowed it. */
function explained(clauses, value) {
  const lines = clauses.map((clause) => ({
    ...clause,
    holds: value(clause.relation),
    part: decisive(clause.relation, value),
  }));
  const attends = lines.filter((line) => line.kind === "attend");
  const broken = lines.filter((line) => line.kind === "require" && !line.holds);
  const allowing = attends.filter((line) => line.holds);
  if (allowing.length === 0) return { allowed: false, lines, deciding: attends };
  if (broken.length > 0) return { allowed: false, lines, deciding: broken.slice(0, 1) };
  return { allowed: true, lines, deciding: allowing.slice(0, 1) };
}
