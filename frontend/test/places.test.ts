import { describe, expect, it } from "vitest";
import { capacity, fit } from "../src/lib/grid";
import { formatRoute, parseRoute } from "../src/lib/route";
import { queryFrom, wantedFrom } from "../src/lib/wanted";
import { atSection, toPixels, toPlace, usualSpan, zoomed } from "../src/lib/view";
import { rate } from "../src/lib/work";
import type { Session } from "../src/types";

const SESSION = { start_nm: [40, 0, 100], size: [10, 10, 4], resolution: [4, 4, 50] } as unknown as Session;

describe("routes", () => {
  it("come back as they were", () => {
    for (const hash of ["#/candidates?order=size&cell=AVAL", "#/partners/18446744073709551615", "#/progress"]) {
      expect(formatRoute(parseRoute(hash))).toBe(hash);
    }
  });

  it("take nothing that is no id", () => {
    expect(parseRoute("#/objects/<img>").id).toBeNull();
    expect(parseRoute("#/nowhere").view).toBe("candidates");
  });

  it("hold filters, and only what is not usual", () => {
    expect(queryFrom(wantedFrom({}))).toEqual({});
    const query = { order: "size", down: "0", verdict: "false", cell: "A & B", min_size: "10" };
    expect(queryFrom(wantedFrom(query))).toEqual(query);
  });
});

describe("grid", () => {
  const area = { width: 1340, height: 640, gap: 8, caption: 36 };
  it("fits what it says", () => {
    for (const rows of [1, 2, 3, 5]) {
      const count = capacity(area, rows);
      const { columns, side } = fit(area, count);
      const lines = Math.ceil(count / columns);
      expect(columns * side + (columns - 1) * area.gap).toBeLessThanOrEqual(area.width);
      expect(lines * (side + area.caption) + (lines - 1) * area.gap).toBeLessThanOrEqual(area.height);
      expect(side).toBeGreaterThan(60);
    }
  });
});

describe("views", () => {
  it("turn places into pixels and back", () => {
    const frame = { width: 900, height: 600, view: { at: [100, 200, 25] as const, span: 300 } };
    expect(toPixels(frame, 100, 200)).toEqual([450, 300]);
    const [x, y] = toPixels(frame, 130, 170);
    expect(toPlace(frame, x, y)).toEqual([130, 170, 25]);
  });

  it("stay inside the volume", () => {
    const view = { at: [50, 10, 125] as const, span: 800 };
    expect(atSection(view, 1, SESSION).at[2]).toBe(175);
    expect(atSection(view, 100, SESSION).at[2]).toBe(275);
    expect(atSection(view, -100, SESSION).at[2]).toBe(125);
  });

  it("zoom by steps", () => {
    expect(zoomed(800, 1)).toBe(1200);
    expect(zoomed(800, -1)).toBe(600);
    expect(zoomed(200, -1)).toBe(200);
    expect(usualSpan([4, 4, 50])).toBe(800);
    expect(usualSpan([8, 8, 30])).toBe(1600);
  });
});

describe("rate", () => {
  it("counts the last minutes of work", () => {
    const now = 1e9;
    expect(rate([], now)).toBeNull();
    expect(rate([now], now)).toBeNull();
    expect(rate([now - 60_000, now - 30_000, now], now)).toBeCloseTo(2);
    expect(rate([now - 4e6, now - 60_000, now - 30_000, now], now)).toBeCloseTo(2);
  });
});
