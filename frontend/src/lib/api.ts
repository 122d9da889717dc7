/** The server's HTTP interface. */
import { Store } from "./store";
import type {
  Decision,
  Detail,
  Item,
  Labels,
  Loop,
  Page,
  Progress,
  Session,
  Vec,
} from "../types";

export type Connection = "ok" | "lost" | "refused";

/** Whether the last request reached the server ("refused": the link's token is no longer valid). */
export const connection = new Store<Connection>("ok");

export class ApiError extends Error {
  /** `status` is 0 if the server did not answer. */
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }

  /** Whether the same request may succeed later. */
  get passing(): boolean {
    return this.status === 0 || this.status === 401 || this.status === 429 || this.status >= 500;
  }
}

/** A server that hangs counts as one that does not answer. */
const LONGEST_MS = 30_000;

type Query = Record<string, string | number | boolean | null | undefined>;

export function address(path: string, query: Query = {}): string {
  const pairs = Object.entries(query).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  const text = new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])).toString();
  return text ? `${path}?${text}` : path;
}

function firstLine(body: unknown, status: number): string {
  const detail = (body as { detail?: unknown } | null)?.detail;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) {
    const first = detail[0] as { loc?: unknown[]; msg?: string } | undefined;
    if (first?.msg) return `${(first.loc ?? []).join(".")}: ${first.msg}`;
  }
  return `the server answered ${status}`;
}

/** Counts up when the server is back: what failed meanwhile is asked for again. */
export const revived = new Store(0);

function noteConnection(state: Connection): void {
  if (connection.value === state) return;
  connection.set(state);
  if (state === "ok") revived.update((count) => count + 1);
}

async function request<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method === "POST") {
    headers["Content-Type"] = "application/json";
    headers["X-Cnapse-Review"] = "1";
  }
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(LONGEST_MS),
    });
  } catch {
    noteConnection("lost");
    throw new ApiError(0, "the server does not answer");
  }
  noteConnection(answer.status === 401 ? "refused" : "ok");
  const data: unknown = await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(answer.status, firstLine(data, answer.status));
  return data as T;
}

const get = <T>(path: string, query?: Query) => request<T>("GET", address(path, query));
const post = <T>(path: string, body: unknown) => request<T>("POST", path, body);

export interface Wanted {
  order: string;
  descending: boolean;
  verdict: string;
  cell: string;
  min_size: string;
  max_size: string;
  flag: string;
  error: string;
  seed: string;
}

/** Filters that say nothing are left out. */
export function wantedQuery(wanted: Partial<Wanted>): Record<string, string | number | boolean> {
  const query: Record<string, string | number | boolean> = {};
  if (wanted.order) query.order = wanted.order;
  if (wanted.descending !== undefined) query.descending = wanted.descending;
  if (wanted.verdict) query.verdict = wanted.verdict;
  if (wanted.cell) query.cell = wanted.cell;
  if (wanted.min_size) query.min_size = Number(wanted.min_size);
  if (wanted.max_size) query.max_size = Number(wanted.max_size);
  if (wanted.flag) query.flag = wanted.flag;
  if (wanted.error) query.error = wanted.error;
  if (wanted.seed) query.seed = Number(wanted.seed);
  return query;
}

export const api = {
  session: () => get<Session>("/api/session"),
  signIn: (reviewer: string) => post<Session>("/api/session", { reviewer }),
  candidates: (wanted: Partial<Wanted>, offset: number, limit: number) =>
    get<Page>("/api/candidates", { ...wantedQuery(wanted), offset, limit }),
  claim: (loop: Loop, wanted: Partial<Wanted>, count: number, exclude: string[]) =>
    post<{ items: Item[] }>("/api/claim", { loop, count, exclude, ...wantedQuery(wanted) }),
  renew: (loop: Loop, items: string[]) => post<{ items: Item[] }>("/api/claim", { loop, items }),
  release: (loop: Loop, items: string[]) => post<object>("/api/release", { loop, items }),
  synapse: (id: string) => get<Detail>(`/api/synapses/${id}`),
  labels: (at: Vec, size: number, span_nm: number) =>
    get<Labels>("/api/labels", { x: at[0], y: at[1], z: at[2], size, span_nm }),
  decide: (decision: object) => post<Decision>("/api/decisions", decision),
  newest: (limit: number, before?: number, reviewer?: string) =>
    get<{ decisions: Decision[] }>("/api/decisions", { newest: 1, limit, before, reviewer }),
  progress: () => get<Progress>("/api/progress"),
  viewer: (id: string) => get<{ url: string }>(`/api/viewer/${id}`),
};

export function tileUrl(id: string, dz: number, size: number, span: number, outline: boolean): string {
  return address(`/api/tiles/${id}/${dz}`, { size, span_nm: span, outline: outline ? 1 : 0 });
}

export function placeUrl(at: Vec, size: number, span: number): string {
  return address("/api/tiles/at", { x: at[0], y: at[1], z: at[2], size, span_nm: span });
}
