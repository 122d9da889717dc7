/** The keyboard: views say what their keys do; the help shows what is bound just now. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { Store } from "./store";

export interface Binding {
  /** As `event.key`, with `Ctrl+`, `Alt+` before it; `g c` is first g, then c. */
  keys: readonly string[];
  label: string;
  run: (event: KeyboardEvent) => void;
  /** Also while one types in a field. */
  always?: boolean;
  /** Runs again while the key is held down: moving does, deciding does not. */
  repeats?: boolean;
  /** How the help writes the keys; by default as they are. */
  shown?: string;
}

interface Layer {
  group: string;
  bindings: readonly Binding[];
  /** Keys of layers below are dead while this one is there (dialogs). */
  alone: boolean;
}

export const layers = new Store<readonly Layer[]>([]);
let prefix = "";
let prefixTimer: ReturnType<typeof setTimeout> | undefined;

/** Keys of a view, as long as it is shown. */
export function useKeys(group: string, bindings: readonly Binding[], alone = false): void {
  const latest = useRef(bindings);
  latest.current = bindings;
  // At once, not after the next picture: fast typists press the next key before that.
  useLayoutEffect(() => {
    // Bindings close over the view's state: they are looked up when a key is pressed.
    const layer: Layer = {
      group,
      alone,
      get bindings() {
        return latest.current;
      },
    };
    layers.update((list) => [...list, layer]);
    return () => layers.update((list) => list.filter((other) => other !== layer));
  }, [group, alone]);
}

export function keyOf(event: KeyboardEvent): string {
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const alt = event.altKey ? "Alt+" : "";
  const named = event.key.length > 1;
  const shift = event.shiftKey && named ? "Shift+" : "";
  // Caps Lock must not turn t into T.
  const letter = /^[a-z]$/i.test(event.key);
  const upper = event.shiftKey && !control;
  const key = letter ? (upper ? event.key.toUpperCase() : event.key.toLowerCase()) : event.key;
  return `${control}${alt}${shift}${key === " " ? "Space" : key}`;
}

function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) {
    return !["checkbox", "radio", "button", "range"].includes(target.type);
  }
  return target.matches("textarea, select, [contenteditable]");
}

function pressesItself(event: KeyboardEvent): boolean {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  return (event.key === "Enter" || event.key === " ") && target.matches("button, a[href], summary, input");
}

function find(pressed: string, inField: boolean): Binding | null {
  const list = layers.value;
  for (let i = list.length - 1; i >= 0; i -= 1) {
    const layer = list[i];
    if (!layer) continue;
    const hit = layer.bindings.find(
      (binding) => binding.keys.includes(pressed) && (!inField || binding.always),
    );
    if (hit) return hit;
    if (layer.alone) return null;
  }
  return null;
}

export function handleKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return;
  if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
  const inField = typing(event.target);
  if (!inField && pressesItself(event)) return;
  const pressed = keyOf(event);
  const hit = (prefix && find(`${prefix} ${pressed}`, inField)) || find(pressed, inField);
  prefix = "";
  clearTimeout(prefixTimer);
  if (hit) {
    event.preventDefault();
    if (!event.repeat || hit.repeats) hit.run(event);
  } else if (pressed === "g" && !inField) {
    prefix = "g";
    prefixTimer = setTimeout(() => (prefix = ""), 1500);
  }
}

export function startKeys(): void {
  addEventListener("keydown", handleKey);
  // A button pressed with the mouse must not take the next Enter or Space for itself.
  addEventListener("click", (event) => {
    const active = document.activeElement;
    if (event.detail > 0 && active instanceof HTMLButtonElement) active.blur();
  });
}

const NAMES: Record<string, string> = {
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  Escape: "Esc",
  PageDown: "Page ↓",
  PageUp: "Page ↑",
};

export function keyName(key: string): string {
  if (key === "+") return key;
  return key
    .split(" ")
    .map((part) =>
      part
        .split("+")
        .map((piece) => NAMES[piece] ?? piece)
        .join("+"),
    )
    .join(" ");
}
