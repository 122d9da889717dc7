/** Keys of the grid. */
import type { Binding } from "../lib/keys";
import type { Verdict } from "../types";

interface Actions {
  focus: (index: number) => void;
  verdict: (index: number, verdict: Verdict) => void;
  scroll: (index: number, step: number) => void;
  open: (index: number) => void;
  next: () => void;
  previous: () => void;
  restTrue: () => void;
  box: (kind: "error" | "note") => void;
  zoom: (step: number) => void;
  rows: (step: number) => void;
  outline: () => void;
}

export function gridKeys(actions: Actions, at: number, columns: number, live: boolean): Binding[] {
  if (!live) return [];
  const move = (by: number) => () => actions.focus(at + by);
  return [
    { keys: ["t", "1"], label: "True: a synapse", run: () => actions.verdict(at, "true") },
    { keys: ["f", "2"], label: "False: no synapse", run: () => actions.verdict(at, "false") },
    { keys: ["s", "3"], label: "Unsure", run: () => actions.verdict(at, "unsure") },
    { keys: ["e"], label: "Kind of error", run: () => actions.box("error") },
    { keys: ["n"], label: "Note", run: () => actions.box("note") },
    { keys: ["T"], label: "All open ones of this page are true", run: actions.restTrue },
    { keys: ["ArrowLeft"], label: "", run: move(-1), repeats: true },
    { keys: ["ArrowRight"], label: "", run: move(1), repeats: true },
    { keys: ["ArrowUp"], label: "", run: move(-columns), repeats: true },
    {
      keys: ["ArrowDown"],
      label: "Another tile",
      shown: "←  →  ↑  ↓",
      run: move(columns),
      repeats: true,
    },
    {
      keys: [",", "Shift+ArrowUp"],
      label: "Section before",
      run: () => actions.scroll(at, -1),
      repeats: true,
    },
    {
      keys: [".", "Shift+ArrowDown"],
      label: "Section after",
      run: () => actions.scroll(at, 1),
      repeats: true,
    },
    { keys: ["Enter"], label: "Large view", run: () => actions.open(at) },
    { keys: ["Space", "PageDown"], label: "Next page", run: actions.next },
    { keys: ["Shift+Space", "PageUp"], label: "Page before", run: actions.previous },
    { keys: ["+", "="], label: "Closer", run: () => actions.zoom(-1) },
    { keys: ["-"], label: "More of the surroundings", run: () => actions.zoom(1) },
    { keys: ["["], label: "Larger tiles", run: () => actions.rows(-1) },
    { keys: ["]"], label: "Smaller tiles", run: () => actions.rows(1) },
    { keys: ["o"], label: "Outline of the object", run: actions.outline },
    {
      keys: ["/"],
      label: "Filter by cell",
      run: () => document.getElementById("filter-cell")?.focus(),
    },
  ];
}
