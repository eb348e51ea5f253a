// The columns of a gallery: differences, ranges, sorting and filtering. Touches no element of the page.
"use strict";

/**
 * @param {object} data What the report wrote to data/<name>.js: columns of all rows.
 */
function galleryColumns(data) {
  const count = data.ids.length;
  const names = data.measures.map((measure) => measure.name);
  const lower = data.prompts.map((prompt) => prompt.toLowerCase());
  const numericFacts = Object.keys(data.facts).filter((name) => typeof data.facts[name][0] === "number");

  const value = (side, measure, row) => data.values[side][measure][row];
  function difference(measure, row, [plus, minus]) {
    const left = value(plus, measure, row);
    const right = value(minus, measure, row);
    return left === null || right === null ? null : left - right;
  }

  /** Smallest and largest value of each measure over all rows and sides. */
  const ranges = names.map((_, measure) => {
    let low = Infinity;
    let high = -Infinity;
    for (const side of data.values) {
      for (const one of side[measure]) {
        if (one === null) continue;
        if (one < low) low = one;
        if (one > high) high = one;
      }
    }
    return [low, high];
  });

  /** Largest absolute difference of each measure; 0 if there is none. */
  const spans = (sides) =>
    names.map((_, measure) => {
      let most = 0;
      for (let row = 0; row < count; row++) most = Math.max(most, Math.abs(difference(measure, row, sides) || 0));
      return most;
    });

  /** Column by name: the difference of a measure, or a fact. */
  function column(name, sides) {
    const measure = names.indexOf(name);
    if (measure >= 0) return (row) => difference(measure, row, sides);
    if (numericFacts.includes(name)) return (row) => data.facts[name][row];
    return null;
  }

  const hasClips = (row) => data.clips.some((side) => side[row] !== null);

  /** Row numbers that `state` keeps, in its order; rows without a value come last. */
  function select(state) {
    const search = state.q.trim().toLowerCase();
    const filter = column(state.by, state.sides);
    const [min, max] = [Number.parseFloat(state.min), Number.parseFloat(state.max)];
    const rows = [];
    for (let row = 0; row < count; row++) {
      if (search && !lower[row].includes(search) && data.ids[row] !== search) continue;
      if (state.clips && !hasClips(row)) continue;
      if (filter && (!Number.isNaN(min) || !Number.isNaN(max))) {
        const found = filter(row);
        if (found === null || found < min || found > max) continue;
      }
      rows.push(row);
    }
    const key = column(state.sort, state.sides);
    if (!key) return state.dir === "asc" ? rows : rows.reverse();
    const sign = state.dir === "asc" ? 1 : -1;
    const keys = new Map(rows.map((row) => [row, key(row)]));
    return rows.sort((a, b) => {
      const [left, right] = [keys.get(a), keys.get(b)];
      if (left === null || right === null) return (left === null) - (right === null) || a - b;
      return sign * (left - right) || a - b;
    });
  }

  return { count, names, numericFacts, ranges, spans, value, difference, hasClips, select };
}
