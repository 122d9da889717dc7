/** Pointing with the keyboard: a cross that arrows move and Enter sets. */
import type { Binding } from "./keys";
import { clampPlace, type View } from "./view";
import type { Session, Vec } from "../types";

const STEP = 1 / 40;
const FINE = 1 / 200;

export function pointerKeys(
  pointer: Vec,
  view: View,
  session: Session,
  onMove: (to: Vec) => void,
  onSet: () => void,
): Binding[] {
  const to = (dx: number, dy: number, part: number) => () => {
    const [x, y, z] = pointer;
    onMove(clampPlace([x + dx * view.span * part, y + dy * view.span * part, z], session));
  };
  return [
    { keys: ["ArrowLeft"], label: "", run: to(-1, 0, STEP), repeats: true },
    { keys: ["ArrowRight"], label: "", run: to(1, 0, STEP), repeats: true },
    { keys: ["ArrowUp"], label: "", run: to(0, -1, STEP), repeats: true },
    { keys: ["ArrowDown"], label: "Move the cross", shown: "←  →  ↑  ↓", run: to(0, 1, STEP), repeats: true },
    { keys: ["Shift+ArrowLeft"], label: "", run: to(-1, 0, FINE), repeats: true },
    { keys: ["Shift+ArrowRight"], label: "", run: to(1, 0, FINE), repeats: true },
    { keys: ["Shift+ArrowUp"], label: "", run: to(0, -1, FINE), repeats: true },
    {
      keys: ["Shift+ArrowDown"],
      label: "Move the cross a little",
      shown: "Shift+arrows",
      run: to(0, 1, FINE),
      repeats: true,
    },
    { keys: ["Enter"], label: "Point here", run: onSet },
  ];
}
