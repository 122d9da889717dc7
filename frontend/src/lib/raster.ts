/** Labels of a section: from the server's run-length code to what one paints and points at. */
import type { Labels, Vec } from "../types";

/** Runs `index, length, index, length, ...` of a row-major square. Too short ones end in 0. */
export function decodeRuns(runs: readonly number[], size: number): Uint16Array {
  const raster = new Uint16Array(size * size);
  let at = 0;
  for (let i = 0; i + 1 < runs.length && at < raster.length; i += 2) {
    const index = runs[i] ?? 0;
    const stop = Math.min(at + (runs[i + 1] ?? 0), raster.length);
    if (index) raster.fill(index, at, stop);
    at = stop;
  }
  return raster;
}

/** Edges of the pixels of `index`, as x0, y0, x1, y1 in pixels; straight edges are joined. */
export function outline(raster: Uint16Array, size: number, index: number): number[] {
  const edges: number[] = [];
  const inside = (x: number, y: number) =>
    x >= 0 && y >= 0 && x < size && y < size && raster[y * size + x] === index;
  for (let line = 0; line <= size; line += 1) {
    let across = -1;
    let down = -1;
    for (let i = 0; i <= size; i += 1) {
      const isAcross = i < size && inside(i, line) !== inside(i, line - 1);
      if (isAcross && across < 0) across = i;
      if (!isAcross && across >= 0) {
        edges.push(across, line, i, line);
        across = -1;
      }
      const isDown = i < size && inside(line, i) !== inside(line - 1, i);
      if (isDown && down < 0) down = i;
      if (!isDown && down >= 0) {
        edges.push(line, down, line, i);
        down = -1;
      }
    }
  }
  return edges;
}

/**
 * For each index, the pixel furthest from where it ends, and how far that is (in pixels): where its
 * name is written. Two passes of the city-block distance.
 */
export function anchors(
  raster: Uint16Array,
  size: number,
  count: number,
): { x: number; y: number; room: number }[] {
  const distance = new Uint16Array(size * size);
  const same = (a: number, b: number) => raster[a] === raster[b];
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const at = y * size + x;
      const left = x > 0 && same(at, at - 1) ? (distance[at - 1] ?? 0) : 0;
      const up = y > 0 && same(at, at - size) ? (distance[at - size] ?? 0) : 0;
      distance[at] = 1 + Math.min(left, up);
    }
  }
  const best = Array.from({ length: count + 1 }, () => ({ x: 0, y: 0, room: 0 }));
  for (let y = size - 1; y >= 0; y -= 1) {
    for (let x = size - 1; x >= 0; x -= 1) {
      const at = y * size + x;
      const right = x < size - 1 && same(at, at + 1) ? (distance[at + 1] ?? 0) : 0;
      const down = y < size - 1 && same(at, at + size) ? (distance[at + size] ?? 0) : 0;
      const here = Math.min(distance[at] ?? 0, 1 + Math.min(right, down));
      distance[at] = here;
      const mark = best[raster[at] ?? 0];
      if (mark && here > mark.room) Object.assign(mark, { x, y, room: here });
    }
  }
  return best;
}

export interface LabelRaster {
  size: number;
  /** Centre and width of the square, nm. */
  at: Vec;
  span: number;
  cells: { id: string; name: string }[];
  cellRaster: Uint16Array;
  synapses: string[];
  synapseRaster: Uint16Array;
  names: { x: number; y: number; room: number }[];
}

export function labelRaster(labels: Labels, at: Vec, span: number): LabelRaster {
  const cellRaster = decodeRuns(labels.cell_runs, labels.size);
  return {
    size: labels.size,
    at,
    span,
    cells: labels.cells,
    cellRaster,
    synapses: labels.synapses,
    synapseRaster: decodeRuns(labels.synapse_runs, labels.size),
    names: anchors(cellRaster, labels.size, labels.cells.length),
  };
}

export interface Picked {
  at: Vec;
  cell: { id: string; name: string } | null;
  synapse: string | null;
}

/** What lies at a place of the section (nm). */
export function pick(raster: LabelRaster, x: number, y: number): Picked {
  const { size, span, at } = raster;
  const column = Math.floor(((x - at[0]) / span + 0.5) * size);
  const row = Math.floor(((y - at[1]) / span + 0.5) * size);
  const place: Vec = [x, y, at[2]];
  if (column < 0 || row < 0 || column >= size || row >= size) {
    return { at: place, cell: null, synapse: null };
  }
  const index = row * size + column;
  return {
    at: place,
    cell: raster.cells[(raster.cellRaster[index] ?? 0) - 1] ?? null,
    synapse: raster.synapses[(raster.synapseRaster[index] ?? 0) - 1] ?? null,
  };
}

/** The section's cells, the nearest to a place (nm) first. */
export function nearestCells(raster: LabelRaster, x: number, y: number): { id: string; name: string }[] {
  const { size, span, at } = raster;
  const column = ((x - at[0]) / span + 0.5) * size;
  const row = ((y - at[1]) / span + 0.5) * size;
  const least = new Float64Array(raster.cells.length).fill(Infinity);
  for (let i = 0; i < raster.cellRaster.length; i += 1) {
    const cell = (raster.cellRaster[i] ?? 0) - 1;
    if (cell < 0) continue;
    const dx = (i % size) + 0.5 - column;
    const dy = Math.floor(i / size) + 0.5 - row;
    least[cell] = Math.min(least[cell] ?? Infinity, dx * dx + dy * dy);
  }
  const order = [...raster.cells.keys()].sort((a, b) => (least[a] ?? 0) - (least[b] ?? 0));
  return order.flatMap((index) => raster.cells[index] ?? []);
}
