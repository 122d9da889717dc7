/** The second loop: who receives, one synapse at a time. */
import { useEffect, useMemo } from "preact/hooks";
import { api, placeUrl } from "../lib/api";
import { prefetch } from "../lib/images";
import { useKeys } from "../lib/keys";
import { go, type Route } from "../lib/route";
import { useStore } from "../lib/store";
import { queryFrom, wantedFrom } from "../lib/wanted";
import { worklist, type WorkList } from "../lib/worklist";
import { answered, beginTimer } from "../lib/work";
import { useAnswer } from "../parts/hooks";
import { lastTile } from "../parts/section";
import type { Detail, Item, Session } from "../types";
import { ListEnd } from "./gridfoot";
import { PartnersOf } from "./partnersof";

export function Partners({ session, at }: { session: Session; at: Route }) {
  // Whatever the verdict, but for false: the server leaves those out, and whose partners are decided.
  const wanted = useMemo(() => ({ ...wantedFrom(at.query), verdict: "all" }), [at.query]);
  const list = useMemo(
    () => worklist("partners", session.run_id, session.reviewer ?? "", prefetchFirst),
    [session],
  );
  const state = useStore(list.state);
  useEffect(() => list.open(wanted, 1), [list, wanted]);
  const current = list.page[0]?.syn_id ?? null;
  useEffect(() => {
    if (!at.id && current && !state.ended && !state.loading) go({ id: current }, true);
  }, [at.id, current, state.ended, state.loading]);
  if (!at.id) {
    return (
      <main class="work">
        <ListEnd list={list} what="synapses to assign" hidden={false} />
      </main>
    );
  }
  return (
    <One
      session={session}
      id={at.id}
      list={list}
      wanted={wanted}
      onWanted={(to) => go({ id: null, query: queryFrom(to) }, true)}
    />
  );
}

function prefetchFirst(items: readonly Item[]): void {
  const tile = lastTile();
  const first = items[0];
  if (!tile || !first) return;
  const [x, y, z] = first.position_nm;
  prefetch(placeUrl([Math.round(x), Math.round(y), z], tile.size, tile.span));
}

interface OneProps {
  session: Session;
  id: string;
  list: WorkList;
  wanted: ReturnType<typeof wantedFrom>;
  onWanted: (wanted: ReturnType<typeof wantedFrom>) => void;
}

/** On to the next item of the list; past the last one, its end is shown. */
async function advance(list: WorkList, id: string): Promise<void> {
  const inList = list.page[0]?.syn_id === id;
  if (inList) await list.next();
  const next = list.page[0]?.syn_id;
  go({ id: next && next !== id ? next : null }, true);
}

function One({ session, id, list, wanted, onWanted }: OneProps) {
  const taken = useStore(answered);
  const { value: detail, problem, again } = useAnswer<Detail>(`synapse/${id}`, () => api.synapse(id));
  useEffect(() => {
    if (taken) again();
  }, [taken]);
  useEffect(() => beginTimer(), [id]);
  const next = () => void advance(list, id);
  const previous = () => {
    if (list.page[0]?.syn_id === id) list.previous();
    const before = list.page[0]?.syn_id;
    if (before) go({ id: before }, true);
  };
  useKeys("Partners", [
    {
      keys: ["ArrowRight", "k"],
      label: "Next synapse, this one left open",
      run: () => {
        list.release([id]);
        next();
      },
    },
    { keys: ["ArrowLeft"], label: "Synapse before", run: previous },
  ]);
  if (!detail) {
    return (
      <main class="work">
        <div class="empty" role={problem ? "alert" : "status"}>
          <p class={problem ? "problem" : "muted"}>{problem ?? "Loading …"}</p>
        </div>
      </main>
    );
  }
  return (
    <PartnersOf
      key={id}
      session={session}
      detail={detail}
      wanted={wanted}
      onWanted={onWanted}
      onNext={next}
      onPrevious={previous}
    />
  );
}
