// Which points lie near a place: the map cut into square cells, each with a list of its points.

const SIDE = 128; // cells along each side of [-1, 1]

const cell = (value) => Math.min(SIDE - 1, Math.max(0, Math.floor(((value + 1) / 2) * SIDE)));

/** Sort n points into cells; gives functions that look points up by place. */
export function cells(x, y) {
  const n = x.length;
  const starts = new Uint32Array(SIDE * SIDE + 1);
  const of = Uint32Array.from({ length: n }, (_, i) => cell(y[i]) * SIDE + cell(x[i]));
  for (const one of of) starts[one + 1]++;
  for (let i = 0; i < SIDE * SIDE; i++) starts[i + 1] += starts[i];
  const next = starts.slice();
  const members = new Uint32Array(n);
  for (let i = 0; i < n; i++) members[next[of[i]]++] = i;

  /** Indexes of the points in a box. */
  function within({ west, east, south, north }) {
    const some = [];
    for (let row = cell(south); row <= cell(north); row++) {
      for (let at = starts[row * SIDE + cell(west)]; at < starts[row * SIDE + cell(east) + 1]; at++) {
        const i = members[at];
        if (x[i] < west || x[i] > east || y[i] < south || y[i] > north) continue;
        some.push(i);
      }
    }
    return some;
  }

  /** Index of the point nearest to a place, no farther than reach; -1 if there is none. */
  function nearest(px, py, reach) {
    const box = { west: px - reach, east: px + reach, south: py - reach, north: py + reach };
    let best = -1;
    let least = reach * reach;
    for (const i of within(box)) {
      const far = (x[i] - px) ** 2 + (y[i] - py) ** 2;
      if (far <= least) [best, least] = [i, far];
    }
    return best;
  }

  return { nearest };
}
