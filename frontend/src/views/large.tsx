/** One candidate, large: its surroundings, its neighbours, missed synapses around it. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { api } from "../lib/api";
import { PRESYNAPTIC, partnerColour, SYNAPSE } from "../lib/colours";
import { useKeys, type Binding } from "../lib/keys";
import { lookKeys } from "../lib/lookkeys";
import { pointerKeys } from "../lib/pointing";
import { pick, type LabelRaster, type Picked } from "../lib/raster";
import { go } from "../lib/route";
import { settings } from "../lib/settings";
import { useStore } from "../lib/store";
import { usualSpan, type View } from "../lib/view";
import type { WorkList } from "../lib/worklist";
import { answered, beginTimer, decide, tell, verdicts } from "../lib/work";
import { AddBox, DenseBox } from "../parts/addbox";
import type { CellLook } from "../parts/draw";
import { useAnswer, useNow } from "../parts/hooks";
import { Icon } from "../parts/icons";
import { PictureTools } from "../parts/looktools";
import { SectionView } from "../parts/section";
import { Facts, History, PartnerList, VerdictButtons } from "../parts/side";
import { Viewer } from "../parts/viewer";
import { ErrorBox, NoteBox } from "../parts/verdictbox";
import type { Detail, Item, Session, Vec, Verdict, VerdictNew } from "../types";
import { standing } from "./candidates";

interface Props {
  session: Session;
  id: string;
  list: WorkList;
}

export function Large({ session, id, list }: Props) {
  const { pages, at } = useStore(list.state);
  const items = pages[at] ?? [];
  const taken = useStore(answered);
  const { value: detail, problem, again } = useAnswer<Detail>(`synapse/${id}`, () => api.synapse(id));
  useEffect(() => {
    if (taken) again();
  }, [taken]);
  useEffect(() => beginTimer(), [id]);
  if (!detail) {
    return (
      <main class="work">
        <LargeKeys />
        <div class="empty" role={problem ? "alert" : "status"}>
          <p class={problem ? "problem" : "muted"}>{problem ?? "Loading …"}</p>
          <button type="button" onClick={() => go({ id: null })}>
            Back to the tiles <kbd>Esc</kbd>
          </button>
        </div>
      </main>
    );
  }
  return <LargeOf key={id} session={session} detail={detail} list={list} items={items} />;
}

function LargeKeys() {
  useKeys("Large view", [{ keys: ["Escape"], label: "Back to the tiles", run: () => go({ id: null }) }]);
  return null;
}

interface OfProps {
  session: Session;
  detail: Detail;
  list: WorkList;
  items: readonly Item[];
}

type Box = "error" | "note" | "dense" | { add: Vec; picked: Picked };

function LargeOf({ session, detail, list, items }: OfProps) {
  const look = useStore(settings);
  const here = useStore(verdicts);
  const now = useNow(30);
  const home = detail.position_nm;
  const [view, setView] = useState<View>({ at: home, span: look.span ?? usualSpan(session.resolution) });
  const [pointer, setPointer] = useState<Vec | null>(null);
  const [box, setBox] = useState<Box | null>(null);
  const [raster, setRaster] = useState<LabelRaster | null>(null);
  const verdict = standing(detail, here);
  const at = items.findIndex((one) => one.syn_id === detail.syn_id);

  const goTo = (index: number) => {
    const one = items[index];
    if (!one) return;
    list.focus(index);
    go({ id: one.syn_id }, true);
  };
  const give = (next: VerdictNew, stay = false) => {
    decide({ loop: "candidates", action: "verdict", syn_id: detail.syn_id, new: { ...next } }, verdict);
    if (stay || at < 0) return;
    const order = [...items.keys()];
    const open = [...order.slice(at + 1), ...order.slice(0, at)].find((i) => {
      const one = items[i];
      return one && !standing(one, here);
    });
    if (open !== undefined) goTo(open);
    else {
      tell("This page is done.");
      go({ id: null });
    }
  };
  const say = (name: Verdict) =>
    give({ verdict: name, error: name === "false" ? "false_positive" : null, note: verdict?.note ?? "" });
  const point = (picked: Picked) => {
    setPointer(null);
    setBox({ add: picked.at, picked });
  };
  const keys: Binding[] = pointer
    ? [
        ...pointerKeys(pointer, view, session, setPointer, () => {
          const [x, y] = pointer;
          const place: Vec = [x, y, view.at[2]];
          point(raster ? pick(raster, x, y) : { at: place, cell: null, synapse: null });
        }),
        { keys: ["Escape"], label: "Stop pointing", run: () => setPointer(null) },
      ]
    : [
        { keys: ["t", "1"], label: "True: a synapse", run: () => say("true") },
        { keys: ["f", "2"], label: "False: no synapse", run: () => say("false") },
        { keys: ["s", "3"], label: "Unsure", run: () => say("unsure") },
        { keys: ["e"], label: "Kind of error", run: () => setBox("error") },
        { keys: ["n"], label: "Note", run: () => setBox("note") },
        { keys: ["ArrowLeft"], label: "Candidate before", run: () => goTo(at - 1) },
        { keys: ["ArrowRight"], label: "Next candidate", run: () => goTo(at + 1) },
        { keys: ["a"], label: "Add a missed synapse by pointing", run: () => setPointer(view.at) },
        { keys: ["b"], label: "This box is fully looked at", run: () => setBox("dense") },
        { keys: ["p"], label: "Its partners", run: () => go({ view: "partners", id: detail.syn_id, query: {} }) },
        { keys: ["m"], label: "Correct its object", run: () => go({ view: "objects", id: detail.syn_id, query: {} }) },
        { keys: ["Escape"], label: "Back to the tiles", run: () => go({ id: null }) },
      ];
  useKeys("Large view", [...keys, ...lookKeys(view, session, home, setView)]);

  const cells = useMemo(() => cellsOf(detail, look.cells), [detail, look.cells]);
  const synapses = (id: string) =>
    !look.outline
      ? null
      : id === detail.syn_id
        ? { colour: SYNAPSE, width: 0.13 }
        : { colour: "#ffffff", width: 0.07 };
  return (
    <main class={look.viewer ? "work with-viewer" : "work"} data-syn={detail.syn_id}>
      <div class="picture">
        <div class="picture-bar">
          <button type="button" onClick={() => go({ id: null })}>
            <Icon name="back" /> Tiles <kbd>Esc</kbd>
          </button>
          <h1>Synapse {detail.syn_id}</h1>
          {at >= 0 && (
            <span class="muted">
              {at + 1} of {items.length}
            </span>
          )}
          <span class="spring" />
          <PictureTools session={session} view={view} onView={setView} />
        </div>
        <SectionView
          session={session}
          view={view}
          onView={setView}
          home={home}
          extent={detail.extent}
          onRaster={setRaster}
          label={`Synapse ${detail.syn_id}`}
          pointing={pointer !== null}
          looks={{
            cells,
            nameAll: look.cells,
            synapses,
            marks: [],
            pointer: pointer ? [pointer[0], pointer[1]] : null,
            box: null,
          }}
          onPick={(picked) => pointer && point(picked)}
        />
        {pointer && (
          <p class="hint" role="status">
            Click on the missed synapse, or move the cross with the arrows and press Enter.
          </p>
        )}
      </div>
      {look.viewer && <Viewer id={detail.syn_id} />}
      <aside class="side">
        <VerdictButtons
          now={verdict}
          onVerdict={say}
          onError={() => setBox("error")}
          onNote={() => setBox("note")}
        />
        <div class="side-scroll">
          <Facts detail={detail} />
          <PartnerList detail={detail} />
          <History decisions={detail.history} now={now} />
        </div>
        <div class="side-tools">
          <button type="button" aria-pressed={pointer !== null} onClick={() => setPointer(view.at)}>
            <Icon name="pin" /> Add a missed one <kbd>a</kbd>
          </button>
          <button type="button" onClick={() => setBox("dense")}>
            <Icon name="box" /> Box is done <kbd>b</kbd>
          </button>
          <button type="button" onClick={() => go({ view: "partners", id: detail.syn_id, query: {} })}>
            Partners <kbd>p</kbd>
          </button>
          <button type="button" onClick={() => go({ view: "objects", id: detail.syn_id, query: {} })}>
            Object <kbd>m</kbd>
          </button>
        </div>
      </aside>
      {box === "error" && (
        <ErrorBox title="What is wrong?" now={verdict} onSave={(to) => give(to)} onClose={() => setBox(null)} />
      )}
      {box === "note" && (
        <NoteBox title="Note" now={verdict} onSave={(to) => give(to, true)} onClose={() => setBox(null)} />
      )}
      {box === "dense" && <DenseBox session={session} view={view} onClose={() => setBox(null)} />}
      {typeof box === "object" && box && (
        <AddBox
          place={box.add}
          picked={box.picked.cell}
          around={raster?.cells ?? []}
          onClose={() => setBox(null)}
        />
      )}
    </main>
  );
}

function cellsOf(detail: Detail, coloured: boolean): ReadonlyMap<string, CellLook> {
  const cells = new Map<string, CellLook>();
  if (!coloured) return cells;
  detail.partners.forEach((partner, i) => {
    cells.set(partner.post_id, { colour: partnerColour(i), alpha: 0.22 });
  });
  if (detail.pre_id !== "0") cells.set(detail.pre_id, { colour: PRESYNAPTIC, alpha: 0.3 });
  return cells;
}
