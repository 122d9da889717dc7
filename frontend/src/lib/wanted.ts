/** Order and filters, as they stand in the address. */
import type { Wanted } from "./api";

export const ORDERS: readonly { name: string; label: string; descending: boolean }[] = [
  { name: "doubt", label: "Doubt", descending: true },
  { name: "size", label: "Size", descending: true },
  { name: "cell", label: "Cell", descending: false },
  { name: "place", label: "Place", descending: false },
  { name: "random", label: "Random", descending: false },
  { name: "stratified", label: "Stratified sample", descending: false },
];

export const SHOWN: readonly { name: string; label: string }[] = [
  { name: "open", label: "To do" },
  { name: "decided", label: "Decided" },
  { name: "true", label: "True" },
  { name: "false", label: "False" },
  { name: "unsure", label: "Unsure" },
  { name: "all", label: "All" },
];

const FIELDS = ["cell", "min_size", "max_size", "flag", "error", "seed"] as const;

export function wantedFrom(query: Readonly<Record<string, string>>): Wanted {
  const order = ORDERS.find((known) => known.name === query.order) ?? ORDERS[0];
  const verdict = SHOWN.find((known) => known.name === query.verdict)?.name ?? "open";
  const text = Object.fromEntries(FIELDS.map((name) => [name, query[name] ?? ""]));
  return {
    cell: "",
    min_size: "",
    max_size: "",
    flag: "",
    error: "",
    seed: "",
    ...text,
    order: order?.name ?? "doubt",
    descending: query.down === undefined ? (order?.descending ?? true) : query.down === "1",
    verdict,
  };
}

/** What goes into the address: nothing of what is usual. */
export function queryFrom(wanted: Wanted): Record<string, string> {
  const usual = wantedFrom({ order: wanted.order });
  const query: Record<string, string> = {};
  if (wanted.order !== "doubt") query.order = wanted.order;
  if (wanted.descending !== usual.descending) query.down = wanted.descending ? "1" : "0";
  if (wanted.verdict !== "open") query.verdict = wanted.verdict;
  for (const name of FIELDS) if (wanted[name]) query[name] = wanted[name];
  return query;
}
