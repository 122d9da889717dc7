import { describe, expect, it } from "vitest";
import {
  parseShare,
  partnersNew,
  planFrom,
  planOf,
  sharesNow,
  toggled,
  unchanged,
  withRow,
} from "../src/lib/shares";
import type { Partner } from "../src/types";

const partner = (post_id: string, share: number): Partner => ({
  post_id,
  post: `cell ${post_id}`,
  share,
  raw_share: share,
  position_nm: null,
});
const PARTNERS = [partner("1", 0.5), partner("2", 0.3), partner("3", 0.2)];
const PLAN = planOf({ id: "9", name: "pre" }, PARTNERS);
const total = (shares: Map<string, number>) => [...shares.values()].reduce((a, b) => a + b, 0);

describe("shares", () => {
  it("sends the table's own numbers if nothing was changed", () => {
    expect(unchanged(PLAN, "9")).toBe(true);
    expect(partnersNew(PLAN, "9", "").partners.map((one) => one.share)).toEqual([0.5, 0.3, 0.2]);
  });

  it("divides a dropped share in proportion", () => {
    const { shares } = sharesNow(toggled(PLAN, { id: "1", name: "" }));
    expect(shares.get("2")).toBeCloseTo(0.6);
    expect(shares.get("3")).toBeCloseTo(0.4);
    expect(shares.has("1")).toBe(false);
  });

  it("keeps typed shares and sums to 1", () => {
    const { shares, scaled } = sharesNow(withRow(PLAN, "3", { typed: 0.6 }));
    expect(scaled).toBe(false);
    expect(shares.get("3")).toBeCloseTo(0.6);
    expect(shares.get("1")).toBeCloseTo(0.25);
    expect(total(shares)).toBeCloseTo(1);
  });

  it("scales typed shares that cannot stand", () => {
    let plan = withRow(PLAN, "1", { typed: 0.9 });
    plan = withRow(plan, "2", { typed: 0.9 });
    const { shares, scaled } = sharesNow(plan);
    expect(scaled).toBe(true);
    expect(shares.get("1")).toBeCloseTo(0.5);
    expect(shares.get("3")).toBeCloseTo(0);
  });

  it("gives an added cell the mean of the kept ones, and takes it away again", () => {
    const plan = toggled(PLAN, { id: "4", name: "new" });
    expect(sharesNow(plan).shares.get("4")).toBeCloseTo(0.25);
    expect(unchanged(plan, "9")).toBe(false);
    expect(toggled(plan, { id: "4", name: "new" }).rows).toHaveLength(3);
  });

  it("shows a decision again as it was made", () => {
    const decided = partnersNew(
      toggled(withRow(PLAN, "2", { typed: 0.7 }), { id: "3", name: "" }),
      "9",
      "",
    );
    const plan = planFrom(decided, PARTNERS, (id) => id);
    expect(plan.rows.map((row) => row.kept)).toEqual([true, true, false]);
    expect(sharesNow(plan).shares.get("2")).toBeCloseTo(0.7);
    expect(unchanged(planFrom(partnersNew(PLAN, "9", ""), PARTNERS, (id) => id), "9")).toBe(true);
  });

  it("reads shares as people write them", () => {
    expect(["40%", "0.4", ".4", "40", "0,4"].map(parseShare)).toEqual([0.4, 0.4, 0.4, 0.4, 0.4]);
    expect(["", "x", "-3", "140", "1e3"].map(parseShare)).toEqual([null, null, null, null, null]);
  });
});
