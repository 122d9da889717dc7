/** A synapse that the network missed; a box in which everything was looked at. */
import { useState } from "preact/hooks";
import { length, place as placed } from "../lib/format";
import { clampPlace, type View } from "../lib/view";
import { decide, tell } from "../lib/work";
import type { Session, Vec } from "../types";
import { Dialog } from "./dialog";

interface AddProps {
  place: Vec;
  picked: { id: string; name: string } | null;
  around: readonly { id: string; name: string }[];
  onClose: () => void;
}

export function AddBox({ place, picked, around, onClose }: AddProps) {
  const [pre, setPre] = useState(picked?.id ?? "0");
  const [note, setNote] = useState("");
  const save = (event: Event) => {
    event.preventDefault();
    const position_nm = place.map((nm) => Math.round(nm * 10) / 10);
    decide({
      loop: "candidates",
      action: "add_synapse",
      syn_id: "0",
      new: { position_nm, pre_id: pre, note: note.trim() },
    });
    tell(`Synapse added at ${placed(place)} nm.`);
    onClose();
  };
  return (
    <Dialog title="A missed synapse" onClose={onClose}>
      <form onSubmit={save} class="fields">
        <p class="muted">At {placed(place)} nm.</p>
        <label>
          Presynaptic cell
          <select
            data-first
            value={pre}
            onChange={(event) => setPre(event.currentTarget.value)}
            onKeyDown={(event) => event.key === "Enter" && save(event)}
          >
            <option value="0">not known: found by the pipeline</option>
            {around.map((cell) => (
              <option key={cell.id} value={cell.id}>
                {cell.name || cell.id}
              </option>
            ))}
          </select>
        </label>
        <label>
          Note
          <input value={note} maxLength={2000} onInput={(event) => setNote(event.currentTarget.value)} />
        </label>
        <div class="dialog-foot">
          <span />
          <button type="submit" class="primary">
            Add <kbd>Enter</kbd>
          </button>
        </div>
      </form>
    </Dialog>
  );
}

interface DenseProps {
  session: Session;
  view: View;
  onClose: () => void;
}

export function DenseBox({ session, view, onClose }: DenseProps) {
  const [side, setSide] = useState(String(view.span));
  const [sections, setSections] = useState("5");
  const nm = Number(side);
  const count = Math.round(Number(sections));
  const valid = nm >= session.resolution[0] && nm <= 100_000 && count >= 1 && count <= 1000;
  const box = valid ? boxAround(session, view.at, nm, count) : null;
  const save = (event: Event) => {
    event.preventDefault();
    if (!box) return;
    decide({
      loop: "candidates",
      action: "box_done",
      syn_id: "0",
      new: { start_nm: box[0], stop_nm: box[1] },
    });
    tell("Box noted: everything in it was looked at.");
    onClose();
  };
  return (
    <Dialog title="Everything in this box was looked at" onClose={onClose}>
      <form onSubmit={save} class="fields">
        <p class="muted">
          Every synapse in the box was judged and every missed one was added: from such boxes{" "}
          <code>cnapse evaluate review</code> computes how many are found at all.
        </p>
        <label>
          Side in the plane, nm
          <input data-first value={side} inputMode="numeric" onInput={(event) => setSide(event.currentTarget.value)} />
        </label>
        <label>
          Sections
          <input value={sections} inputMode="numeric" onInput={(event) => setSections(event.currentTarget.value)} />
        </label>
        <p class="small">
          {box
            ? `${length(box[1][0] - box[0][0])} x ${length(box[1][1] - box[0][1])} x ${length(box[1][2] - box[0][2])}, around ${placed(view.at)} nm`
            : "Two numbers, please."}
        </p>
        <div class="dialog-foot">
          <span />
          <button type="submit" class="primary" disabled={!box}>
            All looked at <kbd>Enter</kbd>
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** Edges of whole voxels around a place, inside the volume. */
function boxAround(session: Session, at: Vec, side: number, sections: number): [Vec, Vec] {
  const h = session.resolution;
  const half: Vec = [side / 2, side / 2, (sections * h[2]) / 2];
  const edge = (sign: number): Vec => {
    const inside = clampPlace(
      [
        at[0] + sign * (half[0] - h[0] / 2),
        at[1] + sign * (half[1] - h[1] / 2),
        at[2] + sign * (half[2] - h[2] / 2),
      ],
      session,
    );
    return [0, 1, 2].map((axis) => {
      const size = h[axis] ?? 1;
      const origin = session.start_nm[axis] ?? 0;
      const index = Math.floor(((inside[axis] ?? 0) - origin) / size);
      return origin + (index + (sign > 0 ? 1 : 0)) * size;
    }) as unknown as Vec;
  };
  return [edge(-1), edge(1)];
}
