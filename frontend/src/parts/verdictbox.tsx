/** What is wrong with a candidate, and a note. */
import { useState } from "preact/hooks";
import { ERROR_NAMES } from "../lib/format";
import { useKeys } from "../lib/keys";
import { ERROR_KINDS, type ErrorKind, type VerdictNew } from "../types";
import { Dialog } from "./dialog";

export const ERROR_KEYS: Record<ErrorKind, string> = {
  false_positive: "n",
  merged: "m",
  split: "s",
  wrong_extent: "e",
  wrong_polarity: "d",
  other: "o",
};

/** A verdict that fits an error: no synapse is false, all other errors are of true ones. */
export function withError(now: VerdictNew | null, error: ErrorKind | null): VerdictNew {
  const note = now?.note ?? "";
  if (error === "false_positive") return { verdict: "false", error, note };
  if (error === null) return { verdict: now?.verdict ?? "unsure", error, note };
  if (error === "other") return { verdict: now?.verdict ?? "unsure", error, note };
  return { verdict: "true", error, note };
}

interface Props {
  title: string;
  now: VerdictNew | null;
  onSave: (next: VerdictNew) => void;
  onClose: () => void;
}

export function ErrorBox({ title, now, onSave, onClose }: Props) {
  const choose = (kind: ErrorKind | null) => {
    if (now || kind) onSave(withError(now, kind));
    onClose();
  };
  useKeys("Dialog", [
    ...ERROR_KINDS.map((kind) => ({ keys: [ERROR_KEYS[kind]], label: "", run: () => choose(kind) })),
    { keys: ["0"], label: "", run: () => choose(null) },
  ]);
  return (
    <Dialog title={title} onClose={onClose}>
      <div class="choices">
        {ERROR_KINDS.map((kind) => (
          <button
            key={kind}
            type="button"
            class="choice"
            aria-pressed={now?.error === kind}
            onClick={() => choose(kind)}
          >
            <kbd>{ERROR_KEYS[kind]}</kbd>
            <span>{ERROR_NAMES[kind]}</span>
            <span class="muted">
              {kind === "false_positive" ? "false" : kind === "other" ? "" : "true, to be corrected"}
            </span>
          </button>
        ))}
        <button type="button" class="choice" aria-pressed={now?.error === null} onClick={() => choose(null)}>
          <kbd>0</kbd>
          <span>No error</span>
        </button>
      </div>
    </Dialog>
  );
}

export function NoteBox({ title, now, onSave, onClose }: Props) {
  const [note, setNote] = useState(now?.note ?? "");
  const save = () => {
    onSave({ verdict: now?.verdict ?? "unsure", error: now?.error ?? null, note: note.trim() });
    onClose();
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <textarea
        data-first
        rows={4}
        maxLength={2000}
        value={note}
        aria-label="Note"
        onInput={(event) => setNote(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey) {
            event.preventDefault();
            save();
          }
        }}
      />
      <div class="dialog-foot">
        <span class="muted">{now ? "" : "A note alone counts as unsure."}</span>
        <button type="button" class="primary" onClick={save}>
          Save <kbd>Enter</kbd>
        </button>
      </div>
    </Dialog>
  );
}
