/**
 * The items in hand, page by page. Open ones are claimed (nobody else is given them) and claimed one
 * page ahead; others are listed. The pages lie in the browser's storage, so that a reload comes back
 * to the same place.
 */
import { ApiError, api, type Wanted } from "./api";
import * as saved from "./saved";
import { Store } from "./store";
import type { Item, Loop } from "../types";

export interface ListState {
  pages: readonly (readonly Item[])[];
  at: number;
  focus: number;
  loading: boolean;
  problem: string | null;
  /** Nothing more is given: all is decided, passed over, or with others. */
  ended: boolean;
}

const EMPTY: ListState = { pages: [], at: 0, focus: 0, loading: true, problem: null, ended: false };
const KEPT_PAGES = 40;
const MOST_EXCLUDED = 2000;
const RETRY_MS = 1500;
const RENEW_MS = 3 * 60_000;

interface Kept {
  key: string;
  pages: Item[][];
  at: number;
  focus: number;
}

export class WorkList {
  readonly state = new Store<ListState>(EMPTY);
  private key = "";
  private wanted: Partial<Wanted> = {};
  count = 24;
  private ahead: Promise<Item[]> | null = null;
  private passed = new Set<string>();
  private turn = 0;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly loop: Loop,
    private readonly place: string,
    private readonly onAhead: (items: readonly Item[]) => void = () => undefined,
  ) {}

  get claims(): boolean {
    return this.loop === "partners" || (this.wanted.verdict ?? "open") === "open";
  }

  /** Shows what is wanted; the same again changes nothing. */
  open(wanted: Partial<Wanted>, count: number): void {
    const key = JSON.stringify(wanted);
    if (key === this.key) {
      if (count !== this.count) this.repage(count);
      return;
    }
    this.count = count;
    if (this.key) this.letGo();
    this.key = key;
    this.wanted = wanted;
    this.ahead = null;
    this.passed = new Set();
    this.turn += 1;
    clearInterval(this.timer);
    this.timer = setInterval(() => void this.renew(), RENEW_MS);
    const kept = saved.readJson<Kept>(this.place);
    if (kept?.key === key && kept.pages.length) {
      this.state.set({ ...EMPTY, pages: kept.pages, at: kept.at, focus: kept.focus, loading: false });
      for (const page of kept.pages) for (const item of page) this.passed.add(item.syn_id);
      void this.restore();
    } else {
      this.state.set(EMPTY);
      void this.load();
    }
  }

  close(): void {
    clearInterval(this.timer);
  }

  get page(): readonly Item[] {
    return this.state.value.pages[this.state.value.at] ?? [];
  }

  focus(index: number): void {
    if (index === this.state.value.focus) return;
    this.change({ focus: index });
  }

  previous(): void {
    const { at } = this.state.value;
    if (at > 0) this.change({ at: at - 1, focus: 0 });
  }

  async next(): Promise<void> {
    const { at, pages, loading } = this.state.value;
    if (loading) return;
    if (at + 1 < pages.length) this.change({ at: at + 1, focus: 0 });
    else await this.load();
  }

  /** Asks anew for what was passed over. */
  again(): void {
    this.turn += 1;
    this.passed = new Set();
    this.ahead = null;
    this.change({ pages: [], at: 0, focus: 0, ended: false });
    void this.load();
  }

  /** Brings the page with this synapse back; false if it is on none. */
  show(id: string): boolean {
    const { pages } = this.state.value;
    for (let at = pages.length - 1; at >= 0; at -= 1) {
      const focus = pages[at]?.findIndex((item) => item.syn_id === id) ?? -1;
      if (focus >= 0) {
        this.change({ at, focus });
        return true;
      }
    }
    return false;
  }

  /** Gives back what was not decided, for others. */
  release(ids: string[]): void {
    if (this.claims && ids.length) api.release(this.loop, ids).catch(() => undefined);
  }

  /** Tiles have another size: what is on this page and after it is divided anew. */
  private repage(count: number): void {
    this.count = count;
    const { pages, at, focus } = this.state.value;
    if (!pages.length) return;
    const rest = pages.slice(at).flat();
    const chunks: Item[][] = [];
    for (let i = 0; i < rest.length; i += count) chunks.push(rest.slice(i, i + count));
    this.change({
      pages: [...pages.slice(0, at), ...chunks],
      at: at + Math.floor(focus / count),
      focus: focus % count,
    });
  }

  private letGo(): void {
    const ids = this.page.filter((item) => !item.verdict).map((item) => item.syn_id);
    this.release(ids);
    void this.ahead?.then((items) => this.release(items.map((item) => item.syn_id)));
  }

  private change(change: Partial<ListState>): void {
    this.state.update((state) => ({ ...state, ...change }));
    const { pages, at, focus } = this.state.value;
    const skipped = Math.max(0, pages.length - KEPT_PAGES);
    const kept: Kept = {
      key: this.key,
      pages: pages.slice(skipped).map((page) => [...page]),
      at: Math.max(0, at - skipped),
      focus,
    };
    saved.write(this.place, JSON.stringify(kept));
  }

  private async fetchPage(): Promise<Item[]> {
    if (this.claims) {
      const exclude = [...this.passed].slice(-MOST_EXCLUDED);
      return (await api.claim(this.loop, this.wanted, this.count, exclude)).items;
    }
    const offset = this.state.value.pages.reduce((sum, page) => sum + page.length, 0);
    return (await api.candidates(this.wanted, offset, this.count)).items;
  }

  private async load(): Promise<void> {
    const turn = this.turn;
    this.state.update((state) => ({ ...state, loading: true }));
    try {
      const items = await (this.ahead ?? this.fetchPage());
      this.ahead = null;
      if (turn !== this.turn) return;
      for (const item of items) this.passed.add(item.syn_id);
      const { pages } = this.state.value;
      if (items.length) {
        const more = [...pages, items];
        const at = more.length - 1;
        this.change({ pages: more, at, focus: 0, loading: false, ended: false, problem: null });
        this.fetchAhead();
      } else {
        this.change({ loading: false, ended: true, problem: null });
      }
    } catch (error) {
      this.ahead = null;
      if (turn !== this.turn) return;
      const problem = error instanceof Error ? error.message : String(error);
      const passing = error instanceof ApiError && error.passing;
      this.state.update((state) => ({ ...state, loading: passing, problem }));
      if (passing) setTimeout(() => turn === this.turn && void this.load(), RETRY_MS);
    }
  }

  private fetchAhead(): void {
    const made = this.fetchPage();
    this.ahead = made;
    made
      .then((items) => this.onAhead(items))
      .catch(() => {
        if (this.ahead === made) this.ahead = null;
      });
  }

  /** After a reload: what of the page is still ours, with what has been decided meanwhile. */
  private async restore(): Promise<void> {
    if (!this.claims) return;
    const turn = this.turn;
    const ids = this.page.map((item) => item.syn_id);
    try {
      const mine = new Map(
        (await api.renew(this.loop, ids)).items.map((item) => [item.syn_id, item]),
      );
      if (turn !== this.turn) return;
      const { at, pages, focus } = this.state.value;
      const page = (pages[at] ?? []).flatMap((item) => mine.get(item.syn_id) ?? []);
      if (!page.length) {
        this.change({ pages: pages.filter((_, i) => i !== at), at: Math.max(0, at - 1) });
        await this.load();
        return;
      }
      const renewed = pages.map((old, i) => (i === at ? page : old));
      this.change({ pages: renewed, focus: Math.min(focus, page.length - 1) });
      this.fetchAhead();
    } catch {
      // Not reached: the page stays as it was; decisions wait in the outbox.
    }
  }

  private async renew(): Promise<void> {
    if (!this.claims) return;
    const ahead = (await this.ahead?.catch(() => [])) ?? [];
    const ids = [...this.page, ...ahead].map((item) => item.syn_id);
    if (ids.length) await api.renew(this.loop, ids).catch(() => undefined);
  }
}

const lists = new Map<string, WorkList>();

/** The list of a loop for this log and person: it outlives the view, so that one can come back. */
export function worklist(
  loop: Loop,
  run: string,
  reviewer: string,
  onAhead?: (items: readonly Item[]) => void,
): WorkList {
  const place = `cnapse-review/${run}/list/${reviewer}/${loop}`;
  const known = lists.get(place) ?? new WorkList(loop, place, onAhead);
  lists.set(place, known);
  return known;
}
