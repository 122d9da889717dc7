/** Numbers and names as people read them. */
import type { ErrorKind, Vec, Verdict } from "../types";

export const ERROR_NAMES: Record<ErrorKind, string> = {
  false_positive: "No synapse here",
  merged: "Two or more in one object",
  split: "Part of a larger one",
  wrong_extent: "Wrong extent",
  wrong_polarity: "Wrong direction",
  other: "Other (see note)",
};

export const ERROR_SHORT: Record<ErrorKind, string> = {
  false_positive: "none here",
  merged: "merged",
  split: "split",
  wrong_extent: "extent",
  wrong_polarity: "direction",
  other: "other",
};

export const VERDICT_NAMES: Record<Verdict, string> = {
  true: "True",
  false: "False",
  unsure: "Unsure",
};

const grouped = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

export function count(value: number): string {
  return grouped.format(value);
}

/** A volume as 134,400 nm3, or as 0.014 um3 where it is large. */
export function volume(nm3: number): string {
  return nm3 < 1e7 ? `${count(nm3)} nm³` : `${(nm3 / 1e9).toPrecision(3)} µm³`;
}

export function length(nm: number): string {
  return nm >= 1000 ? `${trimmed(nm / 1000, 2)} µm` : `${trimmed(nm, 0)} nm`;
}

function trimmed(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function signed(dz: number): string {
  return dz > 0 ? `+${dz}` : String(dz).replace("-", "−");
}

export function place(at: Vec): string {
  return at.map((nm) => grouped.format(nm)).join(", ");
}

export function perMinute(value: number | null): string {
  return value === null ? "–" : value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

export function ago(iso: string, now: number): string {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return iso.slice(0, 10);
}

/** A cell's name, or its id where it has none. */
export function cellName(name: string, id: string): string {
  return name || (id === "0" ? "none" : id);
}
