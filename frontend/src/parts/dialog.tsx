/** A box over the page that takes the keyboard until it is closed. */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { useKeys } from "../lib/keys";

interface Props {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
}

export function Dialog({ title, onClose, children, wide }: Props) {
  const box = useRef<HTMLDivElement>(null);
  useKeys("Dialog", [{ keys: ["Escape"], label: "Close", run: onClose, always: true }], true);
  useLayoutEffect(() => {
    const before = document.activeElement;
    const first = box.current?.querySelector<HTMLElement>("[data-first]");
    (first ?? box.current)?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    };
  }, []);
  const keepInside = (event: KeyboardEvent) => {
    if (event.key !== "Tab" || !box.current) return;
    const stops = [
      ...box.current.querySelectorAll<HTMLElement>("button, input, textarea, select, a[href]"),
    ].filter((stop) => !stop.hasAttribute("disabled"));
    const edge = event.shiftKey ? stops[0] : stops.at(-1);
    if (document.activeElement !== edge) return;
    event.preventDefault();
    (event.shiftKey ? stops.at(-1) : stops[0])?.focus();
  };
  return (
    <div class="veil" onPointerDown={(event) => event.target === event.currentTarget && onClose()}>
      <div
        class={wide ? "dialog wide" : "dialog"}
        role="dialog"
        aria-modal="true"
        aria-label={title}
        tabIndex={-1}
        ref={box}
        onKeyDown={keepInside}
      >
        <div class="dialog-head">
          <h2>{title}</h2>
          <button type="button" class="plain" onClick={onClose} aria-label="Close">
            Esc
          </button>
        </div>
        {children}
      </div>
    </div>
  );
}
