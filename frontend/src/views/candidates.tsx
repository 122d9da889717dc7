/** The first loop: true, false or unsure, a page of tiles at a time. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { tileUrl, type Wanted } from "../lib/api";
import { capacity, fit } from "../lib/grid";
import { prefetch } from "../lib/images";
import { useKeys } from "../lib/keys";
import { go, type Route } from "../lib/route";
import { change, settings } from "../lib/settings";
import { useStore } from "../lib/store";
import { usualSpan, zoomed } from "../lib/view";
import { wantedFrom, queryFrom } from "../lib/wanted";
import { worklist, type WorkList } from "../lib/worklist";
import { beginTimer, decide, tell, verdicts } from "../lib/work";
import { Filters } from "../parts/filters";
import { useBox } from "../parts/hooks";
import { Icon } from "../parts/icons";
import { Tile } from "../parts/tile";
import { ErrorBox, NoteBox } from "../parts/verdictbox";
import type { Item, Session, Verdict, VerdictNew } from "../types";
import { Large } from "./large";
import { GridFoot, ListEnd } from "./gridfoot";
import { gridKeys } from "./gridkeys";

const GAP_REM = 0.5;
const CAPTION_REM = 2.6;

/** The verdict that stands: given here, or from the server. */
export function standing(
  item: Item,
  here: ReadonlyMap<string, VerdictNew | null>,
): VerdictNew | null {
  const own = here.get(item.syn_id);
  if (own !== undefined) return own;
  return item.verdict ? { verdict: item.verdict, error: item.error, note: item.note } : null;
}

export function Candidates({ session, at }: { session: Session; at: Route }) {
  const wanted = useMemo(() => wantedFrom(at.query), [at.query]);
  const list = useMemo(
    () =>
      worklist("candidates", session.run_id, session.reviewer ?? "", (items) => {
        const { span, outline } = settings.value;
        for (const item of items) {
          const nm = span ?? usualSpan(session.resolution);
          prefetch(tileUrl(item.syn_id, 0, tilePixels, nm, outline));
        }
      }),
    [session],
  );
  const large = at.id;
  useEffect(() => {
    // A link to one of them: the page it is on comes from the last visit, if there was one.
    if (large) list.open(wanted, list.count);
  }, [list, wanted, large]);
  if (large) return <Large session={session} id={large} list={list} />;
  return <Grid session={session} list={list} wanted={wanted} />;
}

/** Pixels of the tiles on the screen: those of the next page are asked for in the same size. */
let tilePixels = 256;

function Grid({ session, list, wanted }: { session: Session; list: WorkList; wanted: Wanted }) {
  const look = useStore(settings);
  const span = look.span ?? usualSpan(session.resolution);
  const state = useStore(list.state);
  const [holder, area] = useBox<HTMLDivElement>();
  const here = useStore(verdicts);
  const [moved, setMoved] = useState<ReadonlyMap<string, number>>(new Map());
  const [box, setBox] = useState<"error" | "note" | null>(null);

  const room = {
    width: area.width,
    height: area.height,
    gap: GAP_REM * area.rem,
    caption: CAPTION_REM * area.rem,
  };
  const wishes = capacity(room, look.rows);
  useEffect(() => {
    if (area.width > 1) list.open(wanted, wishes);
  }, [list, wanted, wishes, area.width > 1]);
  useEffect(() => beginTimer(), [state.at, state.pages.length]);

  const items = state.pages[state.at] ?? [];
  const { columns, side } = fit(room, Math.max(items.length, wishes));
  const ratio = devicePixelRatio || 1;
  const size = Math.min(768, Math.max(128, Math.ceil((side * ratio) / 64) * 64));
  tilePixels = size;
  const focus = Math.min(state.focus, Math.max(items.length - 1, 0));
  const item = items[focus] ?? null;
  const shown = items.map((one) => standing(one, here));

  /** From one tile to the next that is open, to the end and then from the start. */
  const advance = (from: number, decided: ReadonlySet<number>) => {
    const open = (i: number) => !shown[i] && !decided.has(i);
    const order = [...items.keys()];
    const next = [...order.slice(from + 1), ...order.slice(0, from)].find(open);
    if (next !== undefined) list.focus(next);
  };
  const give = (index: number, next: VerdictNew, stay = false) => {
    const one = items[index];
    if (!one) return;
    if (one.leased_by && one.leased_by !== session.reviewer && !shown[index]) {
      tell(`${one.leased_by} is looking at this one.`);
      return;
    }
    const draft = { loop: "candidates" as const, action: "verdict", syn_id: one.syn_id, new: { ...next } };
    decide(draft, shown[index] ?? null);
    if (!stay) advance(index, new Set([index]));
  };
  const verdict = (index: number, name: Verdict) => {
    const note = shown[index]?.note ?? "";
    give(index, { verdict: name, error: name === "false" ? "false_positive" : null, note });
  };
  const restTrue = () => {
    const open = items.filter((_, i) => !shown[i]);
    items.forEach((_, i) => {
      if (!shown[i]) give(i, { verdict: "true", error: null, note: "" }, true);
    });
    if (open.length) tell(`${open.length} marked true. u takes them back one by one.`);
  };
  const scroll = (index: number, step: number) => {
    const one = items[index];
    if (!one) return;
    const [first, last] = one.extent;
    const now = (moved.get(one.syn_id) ?? 0) + step;
    const dz = Math.min(Math.max(now, first - 10), last + 10);
    setMoved(new Map(moved).set(one.syn_id, dz));
  };
  const open = (index: number) => {
    const one = items[index];
    if (one) go({ id: one.syn_id });
  };
  const next = () => {
    const left = items.filter((_, i) => !shown[i]).map((one) => one.syn_id);
    list.release(left);
    void list.next();
  };
  const actions = {
    focus: (index: number) => list.focus(Math.min(Math.max(index, 0), items.length - 1)),
    verdict,
    scroll,
    open,
    next,
    restTrue,
    previous: () => list.previous(),
    box: setBox,
    zoom: (step: number) => change({ span: zoomed(span, step) }),
    rows: (step: number) => change({ rows: Math.min(Math.max(look.rows + step, 1), 6) }),
    outline: () => change({ outline: !look.outline }),
  };
  const latest = useRef(actions);
  latest.current = actions;
  const stable = useMemo(
    () => ({
      onFocus: (index: number) => latest.current.focus(index),
      onOpen: (index: number) => latest.current.open(index),
      onScroll: (index: number, step: number) => latest.current.scroll(index, step),
      onVerdict: (index: number, name: Verdict) => latest.current.verdict(index, name),
    }),
    [],
  );
  useUndoShown(list, here, items);
  useKeys("Candidates", gridKeys(actions, focus, columns, item !== null));

  const decided = shown.filter(Boolean).length;
  return (
    <main class="candidates">
      <div class="tools">
        <Filters
          wanted={wanted}
          flags={session.flags}
          onChange={(to) => go({ query: queryFrom(to) }, true)}
        />
        <LookTools span={span} actions={actions} outline={look.outline} />
      </div>
      <div class="grid-holder" ref={holder}>
        {items.length > 0 && (
          <div
            class="grid"
            role="listbox"
            aria-label="Candidates"
            style={{
              gridTemplateColumns: `repeat(${columns}, ${side}px)`,
              gap: `${room.gap}px`,
            }}
          >
            {items.map((one, index) => (
              <Tile
                key={one.syn_id}
                item={one}
                index={index}
                verdict={shown[index] ?? null}
                focused={index === focus}
                dz={moved.get(one.syn_id) ?? 0}
                span={span}
                size={size}
                outline={look.outline}
                reviewer={session.reviewer ?? ""}
                {...stable}
              />
            ))}
          </div>
        )}
        <ListEnd list={list} what="candidates" hidden={items.length > 0} />
      </div>
      <GridFoot
        state={state}
        decided={decided}
        count={items.length}
        onNext={next}
        onPrevious={() => list.previous()}
        onRest={restTrue}
      />
      {box === "error" && item && (
        <ErrorBox
          title={`What is wrong with ${item.syn_id}?`}
          now={shown[focus] ?? null}
          onSave={(to) => give(focus, to)}
          onClose={() => setBox(null)}
        />
      )}
      {box === "note" && item && (
        <NoteBox
          title={`Note on ${item.syn_id}`}
          now={shown[focus] ?? null}
          onSave={(to) => give(focus, to, true)}
          onClose={() => setBox(null)}
        />
      )}
    </main>
  );
}

/** A verdict taken back comes into view again, on whichever page it was. */
function useUndoShown(
  list: WorkList,
  here: ReadonlyMap<string, VerdictNew | null>,
  items: readonly Item[],
): void {
  const before = useRef(here);
  useEffect(() => {
    const old = before.current;
    before.current = here;
    for (const [id, now] of here) {
      if (now === null && old.get(id) !== null) {
        const index = items.findIndex((one) => one.syn_id === id);
        if (index >= 0) list.focus(index);
        else list.show(id);
      }
    }
  }, [here]);
}

interface LookProps {
  span: number;
  outline: boolean;
  actions: { zoom: (step: number) => void; rows: (step: number) => void; outline: () => void };
}

function LookTools({ span, outline, actions }: LookProps) {
  return (
    <div class="look" role="group" aria-label="Look">
      <button type="button" class="square" onClick={() => actions.zoom(-1)} aria-label="Closer (+)" title="Closer (+)">
        <Icon name="plus" />
      </button>
      <span class="look-span">{span} nm</span>
      <button type="button" class="square" onClick={() => actions.zoom(1)} aria-label="More around it (−)" title="More around it (−)">
        <Icon name="minus" />
      </button>
      <button type="button" class="square" onClick={() => actions.rows(-1)} aria-label="Larger tiles ([)" title="Larger tiles ([)">
        <span class="look-big" aria-hidden="true" />
      </button>
      <button type="button" class="square" onClick={() => actions.rows(1)} aria-label="Smaller tiles (])" title="Smaller tiles (])">
        <span class="look-small" aria-hidden="true" />
      </button>
      <button
        type="button"
        class="square"
        aria-pressed={outline}
        onClick={actions.outline}
        aria-label="Outline (o)"
        title="Outline (o)"
      >
        <Icon name="outline" />
      </button>
    </div>
  );
}
