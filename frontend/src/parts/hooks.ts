/** Small hooks that several views use. */
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { revived } from "../lib/api";
import { useStore } from "../lib/store";

export interface BoxSize {
  width: number;
  height: number;
  /** Pixels of 1rem: text in canvases grows with that of the page. */
  rem: number;
}

/** An element and how large it is. */
export function useBox<E extends HTMLElement>(): [RefObject<E | null>, BoxSize] {
  const ref = useRef<E>(null);
  const [size, setSize] = useState<BoxSize>({ width: 0, height: 0, rem: 16 });
  useEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(([entry]) => {
      if (!entry) return;
      const { width, height } = entry.contentRect;
      const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
      setSize((old) => (old.width === width && old.height === height ? old : { width, height, rem }));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, size];
}

const NOTCH = 40;

/** Wheel steps over an element: plain ones, and those with Ctrl held. */
export function useWheel(
  ref: RefObject<HTMLElement | null>,
  onStep: (step: number) => void,
  onZoom?: (step: number) => void,
): void {
  const latest = useRef({ onStep, onZoom });
  latest.current = { onStep, onZoom };
  useEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    let sum = 0;
    const listen = (event: WheelEvent) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : NOTCH;
      sum += event.deltaY * lines;
      if (Math.abs(sum) < NOTCH) return;
      const step = Math.sign(sum);
      sum = 0;
      if (event.ctrlKey || event.metaKey) latest.current.onZoom?.(step);
      else latest.current.onStep(step);
    };
    element.addEventListener("wheel", listen, { passive: false });
    return () => element.removeEventListener("wheel", listen);
  }, [ref]);
}

/** Something asked for from the server, for as long as `key` stays the same. */
export function useAnswer<T>(
  key: string | null,
  ask: () => Promise<T>,
): { value: T | null; problem: string | null; again: () => void } {
  const [state, setState] = useState<{ key: string | null; value: T | null; problem: string | null }>({
    key: null,
    value: null,
    problem: null,
  });
  const [turn, setTurn] = useState(0);
  const back = useStore(revived);
  useEffect(() => {
    if (key === null) return undefined;
    let live = true;
    ask()
      .then((value) => live && setState({ key, value, problem: null }))
      .catch((error: unknown) => {
        const problem = error instanceof Error ? error.message : String(error);
        if (live) setState((old) => ({ key, value: old.key === key ? old.value : null, problem }));
      });
    return () => {
      live = false;
    };
  }, [key, turn, back]);
  const fresh = state.key === key;
  return {
    value: fresh ? state.value : null,
    problem: fresh ? state.problem : null,
    again: () => setTurn((count) => count + 1),
  };
}

/** Now, renewed every `seconds`. */
export function useNow(seconds: number): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000 * seconds);
    return () => clearInterval(timer);
  }, [seconds]);
  return now;
}
