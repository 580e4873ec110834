// Plans for several processes: which ranks hold a token, and which compute a pair. Ranks that hold tokens together are a team.

const RANK_COLOURS = 8;

class Ranks {
  /** `plan` is from the data of the page; `queries` and `keys` have the team of each token, and `travels` says of each query, or
   * is null, whether it goes to the keys. All are by declared position. */
  constructor(plan, queries, keys, travels, head) {
    Object.assign(this, { plan, queries, keys, travels, groups: plan.groups[head] });
  }

  static async of(plan, blobs, head) {
    const arrays = [plan.queries, plan.keys, plan.travels].map((number) => (number === null ? null : blobs.get(number)));
    return new Ranks(plan, ...(await Promise.all(arrays)), head);
  }

  /** The team that computes a pair. */
  team(query, key) {
    return this.travels !== null && this.travels[query] ? this.keys[key] : this.queries[query];
  }

  /** The number of a colour: of the team that computes a pair, pale if it receives the key. */
  colour(query, key) {
    const team = this.team(query, key);
    return Ranks.colourOf(team) + (team === this.keys[key] ? 0 : RANK_COLOURS);
  }

  static colourOf(team) {
    return 1 + (team % RANK_COLOURS);
  }

  /** Who computes a pair, and from whom what it takes is received. */
  words(query, key) {
    const team = this.team(query, key), holder = this.keys[key], size = this.plan.size, some = this.groups.length < size;
    const who = some ? `${ranksText(this.groups.map((group) => team * size + group))} of ${this.teamText(team)}` : this.teamText(team);
    const verb = (word) => (size > 1 ? word : `${word}s`);
    if (team !== holder) return `computed by ${who}, which ${verb("receive")} the key from ${this.teamText(holder)}`;
    const from = this.queries[query] === team ? "" : `; the query comes from ${this.teamText(this.queries[query])}`;
    return `computed by ${who}, which ${verb("hold")} the key${from}`;
  }

  teamText(team) {
    const { size } = this.plan;
    return ranksText(Array.from({ length: size }, (_, group) => team * size + group));
  }
}

/** `rank 3`, `ranks 8-15`, `ranks 1, 3`. */
function ranksText(ranks) {
  const [first, last] = [ranks[0], ranks[ranks.length - 1]];
  if (ranks.length === 1) return `rank ${first}`;
  return `ranks ${last - first === ranks.length - 1 ? `${first}-${last}` : ranks.join(", ")}`;
}
