/** One line that goes away by itself. */
import { useEffect, useState } from "preact/hooks";
import { useStore } from "../lib/store";
import { notice } from "../lib/work";

const SHOWN_MS = 3500;

export function Toast() {
  const last = useStore(notice);
  const [hidden, setHidden] = useState(0);
  useEffect(() => {
    if (!last) return undefined;
    const timer = setTimeout(() => setHidden(last.serial), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [last]);
  const shown = last !== null && hidden < last.serial;
  return (
    <div class={`toast ${shown ? "shown" : ""} ${last?.kind ?? ""}`} role="status" aria-live="polite">
      {shown ? last.text : ""}
    </div>
  );
}
