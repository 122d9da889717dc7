/** One synapse and its partners: what is shown, and what the reviewer makes of it. */
import { useMemo, useState } from "preact/hooks";
import type { Wanted } from "../lib/api";
import { PRESYNAPTIC, partnerColour, SYNAPSE } from "../lib/colours";
import { draftOf, keepDraft } from "../lib/drafts";
import { cellName } from "../lib/format";
import { useKeys } from "../lib/keys";
import { lookKeys } from "../lib/lookkeys";
import { nearestCells, type LabelRaster, type Picked } from "../lib/raster";
import { go } from "../lib/route";
import { settings } from "../lib/settings";
import { partnersNew, planFrom, planOf, toggled, unchanged, withRow, type Plan } from "../lib/shares";
import { useStore } from "../lib/store";
import { usualSpan, type View } from "../lib/view";
import { decide, partnersDone, tell, verdicts } from "../lib/work";
import { CellBox } from "../parts/cellbox";
import { Dialog } from "../parts/dialog";
import type { CellLook, Mark } from "../parts/draw";
import { Filters } from "../parts/filters";
import { useNow } from "../parts/hooks";
import { Icon } from "../parts/icons";
import { PictureTools } from "../parts/looktools";
import { PartnerTable } from "../parts/partnertable";
import { SectionView } from "../parts/section";
import { History } from "../parts/side";
import { NoteBox } from "../parts/verdictbox";
import { Viewer } from "../parts/viewer";
import type { Detail, PartnersNew, Session, Vec } from "../types";
import { standing } from "./candidates";

interface Props {
  session: Session;
  detail: Detail;
  wanted: Wanted;
  onWanted: (wanted: Wanted) => void;
  onNext: () => void;
  onPrevious: () => void;
}

type Box = "pre" | "partner" | "filters" | "note" | null;

function startPlan(detail: Detail, run: string): Plan {
  const draft = draftOf(run, detail.syn_id);
  if (draft) return draft;
  const names = new Map(detail.partners.map((partner) => [partner.post_id, partner.post]));
  names.set(detail.pre_id, detail.pre);
  const decided = detail.standing.partners;
  if (decided) {
    const now = decided.new as unknown as PartnersNew;
    return planFrom(now, detail.partners, (id) => names.get(id) ?? "");
  }
  return planOf({ id: detail.pre_id, name: detail.pre }, detail.partners);
}

export function PartnersOf({ session, detail, wanted, onWanted, onNext, onPrevious }: Props) {
  const look = useStore(settings);
  const here = useStore(verdicts);
  const now = useNow(30);
  const home = detail.position_nm;
  const [view, setView] = useState<View>({ at: home, span: look.span ?? usualSpan(session.resolution) });
  const [plan, setPlanState] = useState<Plan>(() => startPlan(detail, session.run_id));
  const [row, setRow] = useState(0);
  const [editing, setEditing] = useState<string | null>(null);
  const [box, setBox] = useState<Box>(null);
  const [note, setNote] = useState(String(detail.standing.partners?.new.note ?? ""));
  const [raster, setRaster] = useState<LabelRaster | null>(null);
  const done = useStore(partnersDone).get(detail.syn_id) ?? detail.standing.partners !== null;
  const same = unchanged(plan, detail.pre_id);

  const setPlan = (next: Plan) => {
    setPlanState(next);
    keepDraft(session.run_id, detail.syn_id, next);
  };
  const reset = () => {
    setPlanState(planOf({ id: detail.pre_id, name: detail.pre }, detail.partners));
    keepDraft(session.run_id, detail.syn_id, null);
  };
  const setPre = (cell: { id: string; name: string }) => {
    const rows = plan.rows
      .filter((one) => one.id !== cell.id || one.predicted !== null)
      .map((one) => (one.id === cell.id ? { ...one, kept: false, typed: null } : one));
    setPlan({ pre: cell, rows });
  };
  const toggle = (cell: { id: string; name: string }) => {
    if (cell.id === plan.pre.id) tell("This is the presynaptic cell. Shift+click on another changes it.");
    else setPlan(toggled(plan, cell));
  };
  const picked = ({ cell }: Picked, event: PointerEvent) => {
    if (!cell) tell("No cell here.");
    else if (event.shiftKey) setPre(cell);
    else toggle(cell);
  };
  const confirm = () => {
    const next = partnersNew(plan, detail.pre_id, note);
    if (!next.partners.length) {
      tell("No partner is kept. Is it a synapse? f says no.", "problem");
      return;
    }
    decide({ loop: "partners", action: "partners", syn_id: detail.syn_id, new: { ...next } });
    keepDraft(session.run_id, detail.syn_id, null);
    onNext();
  };
  const noSynapse = () => {
    const verdict = { verdict: "false", error: "false_positive", note: "" };
    const before = standing(detail, here);
    decide({ loop: "candidates", action: "verdict", syn_id: detail.syn_id, new: verdict }, before);
    onNext();
  };
  const selected = plan.rows[Math.min(row, plan.rows.length - 1)];
  const toggleRow = (index: number) => {
    const one = plan.rows[index];
    if (one) toggle(one);
  };
  useKeys("This synapse", [
    { keys: ["Enter"], label: "Confirm and next", run: confirm },
    {
      keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
      shown: "1 … 9",
      label: "Keep or drop this partner",
      run: (event) => toggleRow(Number(event.key) - 1),
    },
    { keys: ["ArrowUp"], label: "", run: () => setRow(Math.max(0, row - 1)) },
    {
      keys: ["ArrowDown"],
      shown: "↑  ↓",
      label: "Choose a partner",
      run: () => setRow(Math.min(plan.rows.length - 1, row + 1)),
    },
    { keys: ["x"], label: "Keep or drop the chosen one", run: () => selected && toggle(selected) },
    { keys: ["e"], label: "Type its share", run: () => selected?.kept && setEditing(selected.id) },
    { keys: ["a"], label: "Add a partner by name", run: () => setBox("partner") },
    { keys: ["p"], label: "Change the presynaptic cell", run: () => setBox("pre") },
    { keys: ["r"], label: "As computed again", run: reset },
    { keys: ["f"], label: "No synapse: false, and next", run: noSynapse },
    { keys: ["n"], label: "Note", run: () => setBox("note") },
    { keys: ["/"], label: "Order and filters", run: () => setBox("filters") },
    { keys: ["m"], label: "Correct its object", run: () => go({ view: "objects", id: detail.syn_id, query: {} }) },
    ...lookKeys(view, session, home, setView),
  ]);

  const cells = useMemo(() => cellsOf(plan, look.cells), [plan, look.cells]);
  const marks = useMemo(() => marksOf(plan, detail), [plan, detail]);
  const synapses = (id: string) => {
    if (!look.outline) return null;
    return id === detail.syn_id ? { colour: SYNAPSE, width: 0.14 } : { colour: "#ffffff", width: 0.06 };
  };
  return (
    <main class={look.viewer ? "work with-viewer" : "work"} data-syn={detail.syn_id}>
      <div class="picture">
        <div class="picture-bar">
          <button type="button" class="square" onClick={onPrevious} aria-label="Synapse before (←)" title="Synapse before (←)">
            <Icon name="back" />
          </button>
          <h1>Synapse {detail.syn_id}</h1>
          <button type="button" class="square" onClick={onNext} aria-label="Next synapse (→)" title="Next synapse (→)">
            <Icon name="next" />
          </button>
          <span class="muted clip">
            {detail.doubt === null ? "" : `doubt ${detail.doubt.toFixed(2)} `}
            {detail.flags.join(", ").replaceAll("_", " ")}
          </span>
          <span class="spring" />
          <button type="button" onClick={() => setBox("filters")}>
            Order <kbd>/</kbd>
          </button>
          <PictureTools session={session} view={view} onView={setView} />
        </div>
        <SectionView
          session={session}
          view={view}
          onView={setView}
          home={home}
          extent={detail.extent}
          onRaster={setRaster}
          label={`Synapse ${detail.syn_id} and the cells around it`}
          pointing
          looks={{ cells, nameAll: look.cells, synapses, marks: look.cells ? marks : [], pointer: null, box: null }}
          onPick={picked}
        />
      </div>
      {look.viewer && <Viewer id={detail.syn_id} />}
      <aside class="side">
        <section class="side-part">
          <h3>Presynaptic cell</h3>
          <button type="button" class="pre" onClick={() => setBox("pre")} title="Change (p, or Shift+click in the picture)">
            <span class="swatch" style={{ background: PRESYNAPTIC }} />
            <span class="clip">{cellName(plan.pre.name, plan.pre.id)}</span>
            {plan.pre.id !== detail.pre_id && <span class="tag">changed</span>}
            <kbd>p</kbd>
          </button>
        </section>
        <PartnerTable
          plan={plan}
          row={row}
          editing={editing}
          onRow={setRow}
          onToggle={toggleRow}
          onEdit={setEditing}
          onShare={(id, typed) => {
            setEditing(null);
            setPlan(withRow(plan, id, { typed }));
          }}
          onAdd={() => setBox("partner")}
        />
        <div class="side-scroll">
          {note && <p class="small clip">Note: “{note}”</p>}
          <History decisions={detail.history} now={now} />
        </div>
        <div class="side-tools">
          <button type="button" onClick={reset} disabled={same}>
            As computed <kbd>r</kbd>
          </button>
          <button type="button" onClick={noSynapse}>
            No synapse <kbd>f</kbd>
          </button>
          <button type="button" class="primary wide confirm" onClick={confirm}>
            {same ? "Confirm" : "Save the correction"} and next <kbd>Enter</kbd>
          </button>
          <p class="side-state" role="status">
            {done ? "Decided already; saving again replaces it." : same ? "As computed" : "Corrected, not saved yet"}
          </p>
        </div>
      </aside>
      {(box === "pre" || box === "partner") && (
        <CellBox
          title={box === "pre" ? "Presynaptic cell" : "Add a partner"}
          cells={cellsHere(raster, plan, box, home)}
          onChoose={(cell) => {
            if (box === "pre") setPre(cell);
            else toggle(cell);
            setBox(null);
          }}
          onClose={() => setBox(null)}
        />
      )}
      {box === "note" && (
        <NoteBox
          title="Note, saved with the partners"
          now={{ verdict: "true", error: null, note }}
          onSave={(to) => setNote(to.note)}
          onClose={() => setBox(null)}
        />
      )}
      {box === "filters" && (
        <Dialog title="Which synapses, in which order" onClose={() => setBox(null)} wide>
          <Filters wanted={wanted} flags={session.flags} onChange={onWanted} plain />
          <p class="muted small">Synapses judged false are left out.</p>
        </Dialog>
      )}
    </main>
  );
}

/** Cells of the section that can be chosen, the nearest to the synapse first. */
function cellsHere(raster: LabelRaster | null, plan: Plan, box: "pre" | "partner", home: Vec) {
  const taken = new Set([plan.pre.id]);
  if (box === "partner") for (const one of plan.rows) taken.add(one.id);
  const found = raster ? nearestCells(raster, home[0], home[1]) : [];
  return found.filter((cell) => !taken.has(cell.id));
}

function cellsOf(plan: Plan, coloured: boolean): ReadonlyMap<string, CellLook> {
  const cells = new Map<string, CellLook>();
  if (!coloured) return cells;
  plan.rows.forEach((one, i) => {
    cells.set(
      one.id,
      one.kept ? { colour: partnerColour(i), alpha: 0.36 } : { colour: "#9aa0a6", alpha: 0.2 },
    );
  });
  cells.set(plan.pre.id, { colour: PRESYNAPTIC, alpha: 0.4 });
  return cells;
}

/** Where each kept partner takes up most: its number in the list. */
function marksOf(plan: Plan, detail: Detail): Mark[] {
  return plan.rows.flatMap((one, i) => {
    const at = detail.partners.find((partner) => partner.post_id === one.id)?.position_nm;
    return one.kept && at ? [{ at, colour: partnerColour(i), text: String(i + 1) }] : [];
  });
}
