/** Always there: where one is, how far, how fast, and whether all is saved. */
import { useEffect } from "preact/hooks";
import { api, connection } from "../lib/api";
import { count, perMinute } from "../lib/format";
import { outbox } from "../lib/outbox";
import { route, visit, type ViewName } from "../lib/route";
import { useStore } from "../lib/store";
import { answered, rate, session, times } from "../lib/work";
import type { Progress } from "../types";
import { useAnswer, useNow } from "./hooks";
import { Icon } from "./icons";

export const TABS: readonly { view: ViewName; name: string; key: string }[] = [
  { view: "candidates", name: "Candidates", key: "c" },
  { view: "partners", name: "Partners", key: "p" },
  { view: "objects", name: "Objects", key: "o" },
  { view: "progress", name: "Progress", key: "r" },
];

/** Counts from the server, read again after decisions and every 15 s. */
export function useProgress(): Progress | null {
  const taken = useStore(answered);
  const now = useNow(15);
  const answer = useAnswer<Progress>("progress", api.progress);
  const { again } = answer;
  useEffect(() => {
    const timer = setTimeout(again, 250);
    return () => clearTimeout(timer);
  }, [taken, now]);
  return answer.value;
}

export function Header({ progress, onHelp }: { progress: Progress | null; onHelp: () => void }) {
  const here = useStore(route);
  const who = useStore(session);
  return (
    <header class="head">
      <a class="brand" href="#/candidates" title={who?.title ?? ""}>
        <span class="brand-mark" aria-hidden="true" />
        <span class="brand-name">cnapse review</span>
        <span class="brand-run">{who?.title ?? ""}</span>
      </a>
      <nav class="tabs" aria-label="Views">
        {TABS.map((tab) => (
          <button
            key={tab.view}
            type="button"
            class="tab"
            aria-current={here.view === tab.view ? "page" : undefined}
            onClick={() => visit(tab.view)}
          >
            {tab.name}
          </button>
        ))}
      </nav>
      <Done progress={progress} partners={here.view === "partners"} />
      <SaveState />
      <button
        type="button"
        class="who"
        title="Another reviewer"
        onClick={() => who && session.set({ ...who, reviewer: null })}
      >
        {who?.reviewer ?? ""}
      </button>
      <button type="button" class="plain" onClick={onHelp} aria-label="Keys (?)" title="Keys (?)">
        <Icon name="help" />
      </button>
    </header>
  );
}

function Done({ progress, partners }: { progress: Progress | null; partners: boolean }) {
  const made = useStore(times);
  const now = useNow(5);
  const total = (partners ? progress?.partners.total : progress?.total) ?? 0;
  const decided = (partners ? progress?.partners.decided : progress?.candidates.decided) ?? 0;
  const share = total ? (100 * decided) / total : 0;
  const what = partners ? "partners" : "candidates";
  return (
    <div class="done" title={`${what} decided, by everybody, and your decisions a minute`}>
      <div
        class="done-bar"
        role="progressbar"
        aria-label={`${what} decided`}
        aria-valuemin={0}
        aria-valuemax={total}
        aria-valuenow={decided}
      >
        <div class="done-fill" style={{ width: `${share}%` }} />
      </div>
      <span class="done-text">
        {count(decided)} / {count(total)}
      </span>
      <span class="done-rate">{perMinute(rate(made, now))} / min</span>
    </div>
  );
}

function SaveState() {
  const box = useStore(outbox.state);
  const link = useStore(connection);
  const waiting = box.waiting > 0;
  const bad = link !== "ok" || !box.durable || box.refused.length > 0;
  const text = waiting
    ? `${box.waiting} not saved yet`
    : link === "ok"
      ? "All saved"
      : "No connection";
  return (
    <span
      class={`save ${waiting ? "waiting" : ""} ${bad ? "bad" : ""}`}
      role="status"
      data-waiting={box.waiting}
    >
      <span class="save-dot" aria-hidden="true" />
      {text}
    </span>
  );
}

/** What the reviewer must know about the connection. */
export function Banner() {
  const box = useStore(outbox.state);
  const link = useStore(connection);
  if (link === "refused") {
    return (
      <div class="banner" role="alert">
        The server was started anew under another link. Open the link that <code>cnapse review</code>{" "}
        printed: what is not saved yet is kept in this browser and sent then.
      </div>
    );
  }
  if (link === "lost") {
    return (
      <div class="banner" role="alert">
        The server does not answer. Go on: decisions are kept in this browser and sent when it is back.
      </div>
    );
  }
  const refused = box.refused[0];
  if (refused) {
    return (
      <div class="banner" role="alert">
        Not possible ({box.refused.length}): {refused.body.action} of synapse {refused.body.syn_id}:{" "}
        {refused.why}
        <button type="button" onClick={() => outbox.dismissRefused()}>
          Understood
        </button>
      </div>
    );
  }
  const other = box.foreign[0];
  if (other) {
    return (
      <div class="banner soft" role="status">
        {other.count} decision{other.count === 1 ? "" : "s"} of {other.reviewer} wait in this browser;
        they are sent when {other.reviewer} signs in here.
      </div>
    );
  }
  if (!box.durable) {
    return (
      <div class="banner" role="alert">
        This browser keeps nothing (private window?): do not close this page before all is saved.
      </div>
    );
  }
  return null;
}
