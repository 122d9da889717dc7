/** What this reviewer does: decisions, undo, what stands now, and how fast it goes. */
import { api } from "./api";
import { outbox, type Sent } from "./outbox";
import { Store } from "./store";
import type { Decision, Draft, Loop, Session, VerdictNew } from "../types";

export const session = new Store<Session | null>(null);

/** Verdicts given or taken back here, over what the lists say; `null` is open again. */
export const verdicts = new Store<ReadonlyMap<string, VerdictNew | null>>(new Map());

/** Synapses whose partners were decided here (`false`: taken back). */
export const partnersDone = new Store<ReadonlyMap<string, boolean>>(new Map());

/** Counts up with each decision that the server has taken: what shows counts reads them anew. */
export const answered = new Store(0);

interface Step {
  uuid: string;
  draft: Draft;
  /** The verdict shown before, to be shown again after undo. */
  before: VerdictNew | null;
}

const steps = new Store<readonly Step[]>([]);

export interface Notice {
  text: string;
  kind: "info" | "problem";
  serial: number;
}

export const notice = new Store<Notice | null>(null);
let noticeSerial = 0;

export function tell(text: string, kind: Notice["kind"] = "info"): void {
  noticeSerial += 1;
  notice.set({ text, kind, serial: noticeSerial });
}

/** Another reviewer sits down: what the last one did is not theirs to undo with a key. */
export function newReviewer(): void {
  steps.set([]);
  times.set([]);
}

/** When the decision in hand began, for its `seconds`. */
let began = performance.now();
const times = new Store<readonly number[]>([]);
const RATE_MS = 5 * 60_000;

export function beginTimer(): void {
  began = performance.now();
}

export { times };

/** Decisions a minute over the last five minutes of work, or `null` before the second decision. */
export function rate(made: readonly number[], now: number): number | null {
  const recent = made.filter((time) => now - time < RATE_MS);
  const first = recent[0];
  if (first === undefined || recent.length < 2) return null;
  const minutes = Math.max(now - first, 5000) / 60_000;
  return (recent.length - 1) / minutes;
}

export function newUuid(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  // Plain http on another machine is no secure context: no randomUUID there.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function withEntry<T>(map: ReadonlyMap<string, T>, key: string, value: T): ReadonlyMap<string, T> {
  return new Map(map).set(key, value);
}

function show(draft: Draft, verdict: VerdictNew | null, done: boolean): void {
  if (draft.action === "verdict") verdicts.update((map) => withEntry(map, draft.syn_id, verdict));
  if (draft.action === "partners") partnersDone.update((map) => withEntry(map, draft.syn_id, done));
}

function post(draft: Draft): string {
  const now = performance.now();
  const seconds = Math.round((now - began) / 10) / 100;
  began = now;
  const uuid = newUuid();
  outbox.add({ ...draft, uuid, seconds });
  return uuid;
}

/** Takes a decision: it is shown at once, kept in the browser, and sent. Returns its uuid. */
export function decide(draft: Draft, before: VerdictNew | null = null): string {
  const uuid = post(draft);
  steps.update((list) => [...list, { uuid, draft, before }]);
  times.update((list) => [...list.slice(-500), Date.now()]);
  show(draft, draft.new as unknown as VerdictNew, true);
  return uuid;
}

function undoBody(uuid: string, loop: Loop, syn_id: string): Draft {
  return { loop, action: "undo", syn_id, new: { undoes: uuid } };
}

/** Takes back any decision of the log, by its uuid. */
export function takeBack(decision: Pick<Decision, "uuid" | "loop" | "syn_id" | "action" | "old">): void {
  post(undoBody(decision.uuid, decision.loop, decision.syn_id));
  steps.update((list) => list.filter((step) => step.uuid !== decision.uuid));
  show({ ...decision, new: {} }, verdictOf(decision.old), false);
}

function verdictOf(payload: Record<string, unknown> | null): VerdictNew | null {
  return payload && typeof payload.verdict === "string" ? (payload as unknown as VerdictNew) : null;
}

/** Takes back the last own decision that still stands; returns what it was, if there was one. */
export async function undoLast(): Promise<Draft | null> {
  const own = steps.value.at(-1);
  if (own) {
    steps.update((list) => list.slice(0, -1));
    post(undoBody(own.uuid, own.draft.loop, own.draft.syn_id));
    times.update((list) => list.slice(0, -1));
    show(own.draft, own.before, false);
    return own.draft;
  }
  return undoOlder();
}

/** After a reload: the last decision of this reviewer is looked up on the server. */
async function undoOlder(): Promise<Draft | null> {
  await outbox.flush();
  const waiting = outbox.pending();
  const undone = new Set(waiting.filter(isUndo).map((body) => String(body.new.undoes)));
  const unsent = waiting.findLast((body) => !isUndo(body) && !undone.has(body.uuid));
  if (unsent) {
    takeBack({ ...unsent, old: null });
    return unsent;
  }
  const { decisions } = await api.newest(100, undefined, session.value?.reviewer ?? "");
  const last = decisions.find(
    (made) => made.action !== "undo" && !made.undone && !undone.has(made.uuid),
  );
  if (!last) return null;
  takeBack(last);
  return last;
}

function isUndo(body: Sent): boolean {
  return body.action === "undo";
}

outbox.onAnswer(() => answered.update((count) => count + 1));
