/** What the server says and hears. Ids are uint64, so they are strings here and everywhere. */

export type Vec = readonly [number, number, number];
export type Loop = "candidates" | "partners" | "objects";
export type Verdict = "true" | "false" | "unsure";

export const ERROR_KINDS = [
  "false_positive",
  "merged",
  "split",
  "wrong_extent",
  "wrong_polarity",
  "other",
] as const;
export type ErrorKind = (typeof ERROR_KINDS)[number];

export interface VerdictNew {
  verdict: Verdict;
  error: ErrorKind | null;
  note: string;
}

export interface PartnerShare {
  post_id: string;
  share: number | null;
}

export interface PartnersNew {
  pre_id: string;
  partners: PartnerShare[];
  note: string;
}

export interface Session {
  title: string;
  run_id: string;
  reviewer: string | null;
  resolution: Vec;
  size: Vec;
  start_nm: Vec;
  viewer: boolean;
  flags: string[];
}

export interface Item {
  syn_id: string;
  pre: string;
  pre_id: string;
  size: number;
  sections: number;
  doubt: number | null;
  doubts: string;
  score: number | null;
  position_nm: Vec;
  n_partners: number | null;
  flags: string[];
  verdict: Verdict | null;
  error: ErrorKind | null;
  note: string;
  by: string | null;
  leased_by: string | null;
  extent: readonly [number, number];
}

export interface Partner {
  post_id: string;
  post: string;
  share: number;
  raw_share: number | null;
  position_nm: Vec | null;
}

export interface Neighbour {
  syn_id: string;
  pre: string;
  size: number;
  position_nm: Vec;
  distance_nm: number;
}

export interface Decision {
  id: number;
  uuid: string;
  time: string;
  reviewer: string;
  loop: Loop;
  action: string;
  syn_id: string;
  position_nm: Vec | null;
  old: Record<string, unknown> | null;
  new: Record<string, unknown>;
  seconds: number;
  undone: boolean;
}

export interface Detail extends Item {
  box_nm: readonly [Vec, Vec] | null;
  partners: Partner[];
  standing: { verdict: Decision | null; partners: Decision | null };
  history: Decision[];
  neighbours: Neighbour[];
}

export interface Labels {
  size: number;
  cells: { id: string; name: string }[];
  cell_runs: number[];
  synapses: string[];
  synapse_runs: number[];
}

export interface Page {
  total: number;
  items: Item[];
}

export interface Progress {
  total: number;
  candidates: {
    decided: number;
    true: number;
    false: number;
    unsure: number;
    left: number;
    added: number;
    boxes: number;
  };
  partners: { total: number; decided: number; confirmed: number; corrected: number; left: number };
  objects: { merge: number; split: number; delete: number; repaint: number };
  reviewers: {
    name: string;
    decisions: number;
    candidates: number;
    partners: number;
    objects: number;
    seconds: number;
    per_minute: number | null;
    last: string;
  }[];
  minutes: [string, number][];
  disagreements: {
    syn_id: string;
    loop: Loop;
    first: { reviewer: string; new: Record<string, unknown> };
    last: { reviewer: string; new: Record<string, unknown> };
  }[];
}

/** What a decision is before the server has filled in who, when, where and what stood before. */
export interface Draft {
  loop: Loop;
  action: string;
  syn_id: string;
  new: Record<string, unknown>;
}
