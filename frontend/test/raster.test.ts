import { describe, expect, it } from "vitest";
import { anchors, decodeRuns, labelRaster, nearestCells, outline, pick } from "../src/lib/raster";

// 4 x 4: a cell of 2 x 2 at the top left, one of one column at the right.
const RUNS = [1, 2, 0, 1, 2, 1, 1, 2, 0, 1, 2, 1, 0, 3, 2, 1, 0, 3, 2, 1];
const LABELS = {
  size: 4,
  cells: [
    { id: "18446744073709551615", name: "A" },
    { id: "7", name: "" },
  ],
  cell_runs: RUNS,
  synapses: ["5"],
  synapse_runs: [0, 15, 1, 1],
};

describe("labels", () => {
  it("decodes runs, and takes no more than there is room for", () => {
    expect([...decodeRuns(RUNS, 4)]).toEqual([1, 1, 0, 2, 1, 1, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]);
    expect([...decodeRuns([3, 100], 2)]).toEqual([3, 3, 3, 3]);
    expect([...decodeRuns([], 2)]).toEqual([0, 0, 0, 0]);
  });

  it("joins straight edges of an outline", () => {
    const edges = outline(decodeRuns(RUNS, 4), 4, 1);
    const lines = [];
    for (let i = 0; i < edges.length; i += 4) lines.push(edges.slice(i, i + 4).join(" "));
    expect(lines.sort()).toEqual(["0 0 0 2", "0 0 2 0", "0 2 2 2", "2 0 2 2"]);
  });

  it("names a cell where there is most room", () => {
    const size = 9;
    const raster = new Uint16Array(size * size);
    for (let y = 0; y < size; y += 1) for (let x = 0; x < 5; x += 1) raster[y * size + x] = 1;
    const spot = anchors(raster, size, 1)[1];
    expect(spot?.x).toBe(2);
    expect(spot?.room).toBe(3);
  });

  it("picks what is under a place in nm, and nothing outside", () => {
    const raster = labelRaster(LABELS, [100, 200, 25], 40);
    expect(pick(raster, 81, 181).cell?.id).toBe("18446744073709551615");
    expect(pick(raster, 119, 219)).toMatchObject({ cell: { id: "7" }, synapse: "5" });
    expect(pick(raster, 101, 181).cell).toBeNull();
    expect(pick(raster, 60, 181).cell).toBeNull();
  });

  it("lists cells by their distance", () => {
    const raster = labelRaster(LABELS, [100, 200, 25], 40);
    expect(nearestCells(raster, 119, 219).map((cell) => cell.id)[0]).toBe("7");
    expect(nearestCells(raster, 81, 181).map((cell) => cell.id)[0]).toBe("18446744073709551615");
  });
});
