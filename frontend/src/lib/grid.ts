/** How many tiles a page has, and how large they are. */

export interface Area {
  width: number;
  height: number;
  gap: number;
  /** Height of what is written below a tile. */
  caption: number;
}

/** Tiles that fill the area in so many rows. */
export function capacity(area: Area, rows: number): number {
  const side = (area.height - area.gap * (rows - 1)) / rows - area.caption;
  if (side < 1) return rows;
  return rows * Math.max(1, Math.floor((area.width + area.gap) / (side + area.gap)));
}

/** Columns and side of the largest square tiles of which `count` fit. */
export function fit(area: Area, count: number): { columns: number; side: number } {
  let best = { columns: 1, side: 0 };
  for (let columns = 1; columns <= Math.max(count, 1); columns += 1) {
    const rows = Math.ceil(count / columns);
    const side = Math.floor(
      Math.min(
        (area.width - area.gap * (columns - 1)) / columns,
        (area.height - area.gap * (rows - 1)) / rows - area.caption,
      ),
    );
    if (side > best.side) best = { columns, side };
  }
  return best;
}
