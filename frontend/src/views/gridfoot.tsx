/** Below the tiles: how much of the page is done, and where it goes on. */
import { useStore } from "../lib/store";
import type { ListState, WorkList } from "../lib/worklist";
import { Icon } from "../parts/icons";

interface FootProps {
  state: ListState;
  decided: number;
  count: number;
  onNext: () => void;
  onPrevious: () => void;
  onRest: () => void;
}

export function GridFoot({ state, decided, count, onNext, onPrevious, onRest }: FootProps) {
  const complete = count > 0 && decided === count;
  return (
    <footer class="foot">
      <button type="button" onClick={onPrevious} disabled={state.at === 0}>
        <Icon name="back" /> Page before
      </button>
      <span class="foot-text" role="status">
        {state.loading && count > 0
          ? "Fetching the next page …"
          : count > 0 && `Page ${state.at + 1}: ${decided} of ${count} decided`}
      </span>
      <span class="foot-keys" aria-hidden="true">
        <kbd>t</kbd> true <kbd>f</kbd> false <kbd>s</kbd> unsure <kbd>e</kbd> error <kbd>,</kbd>
        <kbd>.</kbd> sections <kbd>Enter</kbd> large <kbd>u</kbd> undo <kbd>?</kbd> all keys
      </span>
      <button type="button" onClick={onRest} disabled={complete || count === 0}>
        Rest is true <kbd>T</kbd>
      </button>
      <button type="button" class={complete ? "primary" : ""} onClick={onNext} disabled={state.loading}>
        Next page <kbd>Space</kbd>
      </button>
    </footer>
  );
}

interface EndProps {
  list: WorkList;
  what: string;
  hidden: boolean;
}

/** What stands there when there is nothing to look at. */
export function ListEnd({ list, what, hidden }: EndProps) {
  const state = useStore(list.state);
  const empty = !state.pages.length;
  if (hidden && !state.ended) return null;
  if (hidden && state.at < state.pages.length - 1) return null;
  if (state.problem) {
    return (
      <div class="empty" role="alert">
        <p>{state.problem}</p>
        {state.loading ? (
          <p class="muted">Asked again until it answers.</p>
        ) : (
          <button type="button" onClick={() => list.again()}>
            Try again
          </button>
        )}
      </div>
    );
  }
  const onItsWay = state.loading || (!hidden && !state.ended && !empty);
  if (onItsWay) return hidden ? null : <div class="empty muted">Loading …</div>;
  return (
    <div class={hidden ? "empty over" : "empty"} role="status">
      <h2>{empty ? `No ${what} here` : "That was the last page"}</h2>
      <p class="muted">
        {list.claims
          ? "All that the filters let through is decided, passed over, or with another reviewer."
          : "Nothing more passes the filters."}
      </p>
      <button type="button" class="primary" onClick={() => list.again()}>
        Look again
      </button>
    </div>
  );
}
