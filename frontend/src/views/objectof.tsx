/** One object and what is done to it. */
import { useMemo, useState } from "preact/hooks";
import { MARKER_NAMES, MARKERS, SYNAPSE } from "../lib/colours";
import { cellName, length, volume } from "../lib/format";
import { useKeys, type Binding } from "../lib/keys";
import { lookKeys } from "../lib/lookkeys";
import { pointerKeys } from "../lib/pointing";
import { pick, type LabelRaster, type Picked } from "../lib/raster";
import { go } from "../lib/route";
import { settings } from "../lib/settings";
import { useStore } from "../lib/store";
import { usualSpan, type View } from "../lib/view";
import { decide, tell } from "../lib/work";
import { Dialog } from "../parts/dialog";
import type { CellLook, Mark } from "../parts/draw";
import { useNow } from "../parts/hooks";
import { Icon } from "../parts/icons";
import { PictureTools } from "../parts/looktools";
import { RepaintBox } from "../parts/repaintbox";
import { SectionView } from "../parts/section";
import { Facts, History } from "../parts/side";
import { Viewer } from "../parts/viewer";
import type { Detail, Session, Vec } from "../types";

type Mode = "merge" | "split" | null;

interface Marker {
  group: number;
  at: Vec;
}

const NO_CELLS: ReadonlyMap<string, CellLook> = new Map();
const CHOSEN = "#e69f00";

export function ObjectOf({ session, detail }: { session: Session; detail: Detail }) {
  const look = useStore(settings);
  const now = useNow(30);
  const home = detail.position_nm;
  const [view, setView] = useState<View>({ at: home, span: look.span ?? usualSpan(session.resolution) });
  const [mode, setMode] = useState<Mode>(null);
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const [markers, setMarkers] = useState<readonly Marker[]>([]);
  const [group, setGroup] = useState(0);
  const [pointer, setPointer] = useState<Vec | null>(null);
  const [box, setBox] = useState<"delete" | "repaint" | null>(null);
  const [raster, setRaster] = useState<LabelRaster | null>(null);

  const stop = () => {
    setMode(null);
    setChosen([]);
    setMarkers([]);
    setPointer(null);
  };
  const start = (next: Mode) => {
    stop();
    setMode(next);
    setGroup(0);
    if (next === "split") setPointer(view.at);
  };
  const send = (action: string, payload: Record<string, unknown>, text: string) => {
    decide({ loop: "objects", action, syn_id: detail.syn_id, new: payload });
    tell(`${text} It takes effect with cnapse apply.`);
    stop();
  };
  const choose = (id: string) => {
    if (id === detail.syn_id) return;
    setChosen(chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id]);
  };
  const put = (picked: Picked) => {
    if (!raster) {
      tell("This section is still loading.");
      return;
    }
    if (picked.synapse !== detail.syn_id) {
      tell("Put markers inside this object (its outline is yellow).");
      return;
    }
    setMarkers([...markers, { group, at: picked.at }]);
  };
  const used = new Set(markers.map((marker) => marker.group));
  const merge = () => {
    if (!chosen.length) tell("Choose at least one neighbour: click it, or press its number.");
    else send("merge", { syn_ids: [detail.syn_id, ...chosen] }, `${chosen.length + 1} objects are merged.`);
  };
  const split = () => {
    if (used.size < 2) {
      tell("Put markers of two letters: one on each part.");
      return;
    }
    const groups = [...used].sort().map((name) => {
      return markers.filter((marker) => marker.group === name).map((marker) => marker.at);
    });
    send("split", { markers: groups }, `Split in ${groups.length}.`);
  };
  const remove = () => {
    setBox(null);
    send("delete", {}, "Deleted.");
  };
  const pointAt = (place: Vec): Picked =>
    raster
      ? pick(raster, place[0], place[1])
      : { at: place, cell: null, synapse: null };

  const modeKeys: Binding[] =
    mode === "merge"
      ? [
          {
            keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
            shown: "1 … 9",
            label: "Choose this neighbour",
            run: (event) => {
              const one = detail.neighbours[Number(event.key) - 1];
              if (one) choose(one.syn_id);
            },
          },
          { keys: ["Enter"], label: "Merge them", run: merge },
        ]
      : mode === "split" && pointer
        ? [
            ...pointerKeys(
              pointer,
              view,
              session,
              (to) => setPointer(to),
              () => put(pointAt([pointer[0], pointer[1], view.at[2]])),
            ).map((one) => (one.keys[0] === "Enter" ? { ...one, keys: ["Space"], label: "Put a marker" } : one)),
            {
              keys: ["1", "2", "3", "4"],
              shown: "1 … 4",
              label: "Markers of this part",
              run: (event) => setGroup(Number(event.key) - 1),
            },
            { keys: ["Backspace"], label: "Take the last marker away", run: () => setMarkers(markers.slice(0, -1)) },
            { keys: ["Enter"], label: "Split it", run: split },
          ]
        : [];
  useKeys("This object", [
    ...modeKeys,
    { keys: ["m"], label: "Merge with others", run: () => start("merge") },
    { keys: ["s"], label: "Split by markers", run: () => start("split") },
    { keys: ["d"], label: "Delete", run: () => setBox("delete") },
    { keys: ["w"], label: "How to repaint", run: () => setBox("repaint") },
    { keys: ["p"], label: "Its partners", run: () => go({ view: "partners", id: detail.syn_id, query: {} }) },
    {
      keys: ["Escape"],
      label: mode ? "Stop" : "All objects",
      run: () => (mode ? stop() : go({ id: null, query: {} })),
    },
    ...lookKeys(view, session, home, setView),
  ]);

  const marks = useMemo<Mark[]>(
    () =>
      markers.map((marker) => ({
        at: marker.at,
        colour: MARKERS[marker.group] ?? MARKERS[0],
        text: MARKER_NAMES[marker.group] ?? "?",
      })),
    [markers],
  );
  const synapses = (id: string) => {
    if (!look.outline) return null;
    if (id === detail.syn_id) return { colour: SYNAPSE, width: 0.15 };
    return chosen.includes(id) ? { colour: CHOSEN, width: 0.15 } : { colour: "#ffffff", width: 0.08 };
  };
  const picked = (at: Picked) => {
    if (mode === "merge") {
      if (at.synapse) choose(at.synapse);
      else tell("No object here.");
    } else if (mode === "split") put(at);
  };
  return (
    <main class={look.viewer ? "work with-viewer" : "work"} data-syn={detail.syn_id}>
      <div class="picture">
        <div class="picture-bar">
          <button type="button" onClick={() => go({ id: null, query: {} })}>
            <Icon name="back" /> Objects
          </button>
          <h1>Synapse {detail.syn_id}</h1>
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
          label={`Object ${detail.syn_id}`}
          pointing={mode !== null}
          looks={{
            cells: NO_CELLS,
            nameAll: look.cells,
            synapses,
            marks,
            pointer: mode === "split" && pointer ? [pointer[0], pointer[1]] : null,
            box: null,
          }}
          onPick={picked}
        />
      </div>
      {look.viewer && <Viewer id={detail.syn_id} />}
      <aside class="side">
        <div class="modes" role="group" aria-label="What to do">
          <ModeButton icon="merge" name="Merge" letter="m" on={mode === "merge"} onClick={() => start("merge")} />
          <ModeButton icon="split" name="Split" letter="s" on={mode === "split"} onClick={() => start("split")} />
          <ModeButton icon="bin" name="Delete" letter="d" on={box === "delete"} onClick={() => setBox("delete")} />
          <ModeButton icon="brush" name="Repaint" letter="w" on={box === "repaint"} onClick={() => setBox("repaint")} />
        </div>
        {mode === "merge" && (
          <MergePart detail={detail} chosen={chosen} onChoose={choose} onMerge={merge} onStop={stop} />
        )}
        {mode === "split" && (
          <SplitPart
            markers={markers}
            group={group}
            onGroup={setGroup}
            onClear={() => setMarkers([])}
            onSplit={split}
            onStop={stop}
          />
        )}
        <div class="side-scroll">
          {!mode && <Facts detail={detail} />}
          <History decisions={detail.history} now={now} />
        </div>
      </aside>
      {box === "delete" && (
        <Dialog title={`Delete ${detail.syn_id}?`} onClose={() => setBox(null)}>
          <p class="muted">The object is left out of the corrected layer. Undo with u.</p>
          <div class="dialog-foot">
            <span />
            <button data-first type="button" class="primary" onClick={remove}>
              Delete <kbd>Enter</kbd>
            </button>
          </div>
        </Dialog>
      )}
      {box === "repaint" && <RepaintBox session={session} detail={detail} onClose={() => setBox(null)} />}
    </main>
  );
}

interface ModeProps {
  icon: "merge" | "split" | "bin" | "brush";
  name: string;
  letter: string;
  on: boolean;
  onClick: () => void;
}

function ModeButton({ icon, name, letter, on, onClick }: ModeProps) {
  return (
    <button type="button" class="mode" aria-pressed={on} onClick={onClick}>
      <Icon name={icon} />
      {name}
      <kbd>{letter}</kbd>
    </button>
  );
}

interface MergeProps {
  detail: Detail;
  chosen: readonly string[];
  onChoose: (id: string) => void;
  onMerge: () => void;
  onStop: () => void;
}

function MergePart({ detail, chosen, onChoose, onMerge, onStop }: MergeProps) {
  return (
    <section class="side-part">
      <h3>Merge with</h3>
      <p class="muted small">Click other objects in the picture, or press their number.</p>
      <ul class="cell-list">
        {detail.neighbours.map((one, index) => (
          <li
            key={one.syn_id}
            class={chosen.includes(one.syn_id) ? "chosen" : ""}
            onClick={() => onChoose(one.syn_id)}
          >
            <span>
              <kbd>{index < 9 ? index + 1 : ""}</kbd> {one.syn_id}
            </span>
            <span class="muted small clip">{cellName(one.pre, "")}</span>
            <span class="muted small nowrap" title={volume(one.size)}>
              {length(one.distance_nm)} away
            </span>
          </li>
        ))}
        {!detail.neighbours.length && <li class="muted">No other object nearby.</li>}
      </ul>
      <div class="side-tools">
        <button type="button" onClick={onStop}>
          Stop <kbd>Esc</kbd>
        </button>
        <button type="button" class="primary" disabled={!chosen.length} onClick={onMerge}>
          Merge {chosen.length + 1} <kbd>Enter</kbd>
        </button>
      </div>
    </section>
  );
}

interface SplitProps {
  markers: readonly Marker[];
  group: number;
  onGroup: (group: number) => void;
  onClear: () => void;
  onSplit: () => void;
  onStop: () => void;
}

function SplitPart({ markers, group, onGroup, onClear, onSplit, onStop }: SplitProps) {
  const counts = MARKER_NAMES.map((_, i) => markers.filter((marker) => marker.group === i).length);
  return (
    <section class="side-part">
      <h3>Split by markers</h3>
      <p class="muted small">
        Click inside the object, in any section: A on one part, B on the other. Or move the cross with the
        arrows; Space puts a marker.
      </p>
      <div class="groups" role="radiogroup" aria-label="Part">
        {MARKER_NAMES.map((name, i) => (
          <button
            key={name}
            type="button"
            role="radio"
            class="group"
            aria-checked={group === i}
            onClick={() => onGroup(i)}
          >
            <span class="swatch round" style={{ background: MARKERS[i] ?? "" }} />
            {name} <span class="muted">{counts[i]}</span> <kbd>{i + 1}</kbd>
          </button>
        ))}
      </div>
      <div class="side-tools">
        <button type="button" disabled={!markers.length} onClick={onClear}>
          Take all away
        </button>
        <button type="button" onClick={onStop}>
          Stop <kbd>Esc</kbd>
        </button>
        <button type="button" class="primary wide" disabled={counts.filter(Boolean).length < 2} onClick={onSplit}>
          Split <kbd>Enter</kbd>
        </button>
      </div>
    </section>
  );
}
