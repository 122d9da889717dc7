/**
 * Decisions on their way to the server. Each lies in the browser's storage, under a key of its own
 * (so that two tabs cannot overwrite each other), until the server has said that it is on disk. It
 * keeps its uuid, so that sending it twice does no harm.
 */
import { ApiError, api } from "./api";
import * as saved from "./saved";
import { Store } from "./store";
import type { Decision, Draft } from "../types";

export interface Sent extends Draft {
  uuid: string;
  seconds: number;
}

interface Entry {
  reviewer: string;
  made: number;
  body: Sent;
}

export interface OutboxState {
  waiting: number;
  /** Of them, those of other reviewers, which wait until these sign in again. */
  foreign: { reviewer: string; count: number }[];
  durable: boolean;
  problem: string | null;
  refused: { body: Sent; why: string }[];
}

export interface Wire {
  decide(body: object): Promise<Decision>;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

export class Outbox {
  readonly state = new Store<OutboxState>({
    waiting: 0,
    foreign: [],
    durable: true,
    problem: null,
    refused: [],
  });
  private prefix = "";
  private reviewer = "";
  private counter = 0;
  private sending = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wait = FIRST_WAIT_MS;
  private readonly listeners = new Set<(answer: Decision) => void>();

  constructor(private readonly wire: Wire) {}

  /** From now on for this log and this person; what waits from before is sent. */
  open(run: string, reviewer: string): void {
    this.prefix = `cnapse-review/${run}/outbox/`;
    this.reviewer = reviewer;
    this.refresh();
    void this.flush();
  }

  onAnswer(listener: (answer: Decision) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  add(body: Sent): void {
    const made = Date.now();
    this.counter += 1;
    const place = `${String(made).padStart(15, "0")}-${String(this.counter).padStart(6, "0")}`;
    const entry: Entry = { reviewer: this.reviewer, made, body };
    saved.write(`${this.prefix}${place}-${body.uuid}`, JSON.stringify(entry));
    this.refresh();
    void this.flush();
  }

  /** Own decisions that the server does not have yet, oldest first. */
  pending(): Sent[] {
    return this.entries()
      .filter(([, entry]) => entry.reviewer === this.reviewer)
      .map(([, entry]) => entry.body);
  }

  dismissRefused(): void {
    this.state.update((state) => ({ ...state, refused: [] }));
  }

  /** Sends what waits, in order, one at a time; tries again later if the server does not answer. */
  async flush(): Promise<void> {
    if (this.sending || !this.prefix) return;
    this.sending = true;
    clearTimeout(this.timer);
    try {
      for (;;) {
        const next = this.entries().find(([, entry]) => entry.reviewer === this.reviewer);
        if (!next) break;
        await this.send(next[0], next[1].body);
      }
      this.wait = FIRST_WAIT_MS;
      this.refresh(null);
    } catch (error) {
      this.refresh(error instanceof Error ? error.message : String(error));
      this.timer = setTimeout(() => void this.flush(), this.wait);
      this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
    } finally {
      this.sending = false;
    }
  }

  private async send(key: string, body: Sent): Promise<void> {
    try {
      const answer = await this.wire.decide(body);
      saved.remove(key);
      for (const listener of [...this.listeners]) listener(answer);
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
      saved.remove(key);
      this.state.update((state) => ({
        ...state,
        refused: [...state.refused, { body, why: error.message }],
      }));
    }
    this.refresh();
  }

  private entries(): [string, Entry][] {
    const found: [string, Entry][] = [];
    for (const key of saved.keys(this.prefix)) {
      const entry = saved.readJson<Entry>(key);
      if (entry?.body?.uuid) found.push([key, entry]);
    }
    return found;
  }

  private refresh(problem?: string | null): void {
    const others = new Map<string, number>();
    let waiting = 0;
    for (const [, { reviewer }] of this.entries()) {
      if (reviewer === this.reviewer) waiting += 1;
      else others.set(reviewer, (others.get(reviewer) ?? 0) + 1);
    }
    this.state.update((state) => ({
      ...state,
      waiting,
      foreign: [...others].map(([reviewer, count]) => ({ reviewer, count })),
      durable: saved.durable,
      problem: problem === undefined ? state.problem : problem,
    }));
  }
}

export const outbox = new Outbox(api);
