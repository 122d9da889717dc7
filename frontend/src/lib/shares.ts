/** The partners of a synapse while they are being corrected. */
import type { Partner, PartnersNew } from "../types";

export interface Row {
  id: string;
  name: string;
  /** Share the pipeline gave; `null` for a cell that the reviewer added. */
  predicted: number | null;
  /** What the reviewer typed, 0 to 1. */
  typed: number | null;
  kept: boolean;
}

export interface Plan {
  pre: { id: string; name: string };
  rows: Row[];
}

export function planOf(pre: Plan["pre"], partners: readonly Partner[]): Plan {
  return {
    pre,
    rows: partners.map((partner) => ({
      id: partner.post_id,
      name: partner.post,
      predicted: partner.share,
      typed: null,
      kept: true,
    })),
  };
}

/** A plan over the table's partners that shows what a reviewer has decided before. */
export function planFrom(
  decided: PartnersNew,
  partners: readonly Partner[],
  name: (id: string) => string,
): Plan {
  const shares = new Map(decided.partners.map((partner) => [partner.post_id, partner.share]));
  const base = planOf({ id: decided.pre_id, name: name(decided.pre_id) }, partners);
  const rows = base.rows.map((row) => ({ ...row, kept: shares.has(row.id) }));
  const known = new Set(rows.map((row) => row.id));
  for (const id of shares.keys()) {
    if (!known.has(id)) rows.push({ id, name: name(id), predicted: null, typed: null, kept: true });
  }
  const plan = { ...base, rows };
  const now = sharesNow(plan).shares;
  const differs = rows.some((row) => {
    const share = shares.get(row.id);
    return share !== undefined && share !== null && Math.abs(share - (now.get(row.id) ?? 0)) > 5e-4;
  });
  if (!differs) return plan;
  return { ...plan, rows: rows.map((row) => ({ ...row, typed: shares.get(row.id) ?? null })) };
}

/**
 * Shares that stand now. Typed ones stay as they are; the others divide what is left in proportion
 * to the prediction, an added cell counting like the mean of the kept ones. They always sum to 1:
 * if all are typed, or the typed ones exceed 1, the typed ones are scaled (`scaled`).
 */
export function sharesNow(plan: Plan): { shares: Map<string, number>; scaled: boolean } {
  const kept = plan.rows.filter((row) => row.kept);
  const predicted = kept.flatMap((row) => (row.predicted === null ? [] : [row.predicted]));
  const mean = predicted.length ? sum(predicted) / predicted.length : 1;
  const free = kept.filter((row) => row.typed === null);
  const typedSum = sum(kept.map((row) => row.typed ?? 0));
  const left = Math.max(0, 1 - typedSum);
  const weights = sum(free.map((row) => row.predicted ?? mean));
  const scaled = typedSum > 0 && (typedSum > 1 + 1e-9 || (!free.length && Math.abs(typedSum - 1) > 1e-9));
  const factor = scaled ? 1 / typedSum : 1;
  const shares = new Map<string, number>();
  for (const row of kept) {
    const share =
      row.typed !== null
        ? row.typed * factor
        : weights > 0
          ? (left * (row.predicted ?? mean)) / weights
          : left / Math.max(free.length, 1);
    shares.set(row.id, share);
  }
  return { shares, scaled };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Whether the plan still says what the pipeline said. */
export function unchanged(plan: Plan, pre: string): boolean {
  return (
    plan.pre.id === pre &&
    plan.rows.every((row) => row.kept && row.typed === null && row.predicted !== null)
  );
}

/** What is sent: the table's own numbers if nothing was changed, so that it counts as confirmed. */
export function partnersNew(plan: Plan, pre: string, note: string): PartnersNew {
  const kept = plan.rows.filter((row) => row.kept);
  const same = unchanged(plan, pre);
  const { shares } = sharesNow(plan);
  return {
    pre_id: plan.pre.id,
    partners: kept.map((row) => ({
      post_id: row.id,
      share: same ? row.predicted : (shares.get(row.id) ?? null),
    })),
    note,
  };
}

export function withRow(plan: Plan, id: string, change: Partial<Row>): Plan {
  return { ...plan, rows: plan.rows.map((row) => (row.id === id ? { ...row, ...change } : row)) };
}

/** A cell was pointed at: a new partner is added, a dropped one kept again, a kept one dropped. */
export function toggled(plan: Plan, cell: { id: string; name: string }): Plan {
  const row = plan.rows.find((other) => other.id === cell.id);
  if (!row) {
    const added: Row = { ...cell, predicted: null, typed: null, kept: true };
    return { ...plan, rows: [...plan.rows, added] };
  }
  if (row.predicted === null) {
    return { ...plan, rows: plan.rows.filter((other) => other.id !== cell.id) };
  }
  return withRow(plan, cell.id, { kept: !row.kept, typed: null });
}

/** `40`, `40 %`, `0.4` as 0.4; empty or nonsense as `null`. Numbers up to 1 are fractions. */
export function parseShare(text: string): number | null {
  const match = /^\s*(\d+(?:[.,]\d*)?|[.,]\d+)\s*(%?)\s*$/.exec(text);
  if (!match) return null;
  const value = Number((match[1] ?? "").replace(",", "."));
  const share = match[2] || value > 1 ? value / 100 : value;
  return share <= 1 ? share : null;
}
