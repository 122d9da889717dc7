/** The frame around the views: who, where, keys that work everywhere. */
import { useEffect, useState } from "preact/hooks";
import { api, connection } from "./lib/api";
import { VERDICT_NAMES } from "./lib/format";
import { useKeys } from "./lib/keys";
import { outbox } from "./lib/outbox";
import { go, route, visit } from "./lib/route";
import { useStore } from "./lib/store";
import { newReviewer, session, tell, undoLast } from "./lib/work";
import { Banner, Header, TABS, useProgress } from "./parts/header";
import { Help } from "./parts/help";
import { Toast } from "./parts/toast";
import type { Draft, Session, Verdict } from "./types";
import { Candidates } from "./views/candidates";
import { Objects } from "./views/objects";
import { Partners } from "./views/partners";
import { ProgressView } from "./views/progress";
import { Start } from "./views/start";

export function App() {
  const here = useStore(session);
  const [problem, setProblem] = useState<string | null>(null);
  const link = useStore(connection);
  useEffect(() => {
    let live = true;
    const ask = () =>
      api
        .session()
        .then((found) => live && begin(found))
        .catch((error: unknown) => {
          if (!live) return;
          setProblem(error instanceof Error ? error.message : String(error));
          setTimeout(ask, 2000);
        });
    void ask();
    return () => {
      live = false;
    };
  }, []);
  if (!here) {
    return (
      <main class="start">
        <div class="start-box">
          <span class="brand-mark large" aria-hidden="true" />
          <h1>cnapse review</h1>
          <p class={problem ? "problem" : "muted"} role="status">
            {link === "refused"
              ? "Open the link that cnapse review printed: this page needs its token."
              : (problem ?? "Loading …")}
          </p>
        </div>
      </main>
    );
  }
  if (!here.reviewer) return <Start session={here} onReady={begin} />;
  return <Work session={here} />;
}

let lastReviewer = "";

function begin(found: Session): void {
  if (found.reviewer) {
    if (found.reviewer !== lastReviewer) newReviewer();
    lastReviewer = found.reviewer;
    outbox.open(found.run_id, found.reviewer);
  }
  session.set(found);
  document.title = `${found.title} · cnapse review`;
}

const PING_MS = 1500;

/** While the server does not answer, it is asked again and again. */
function usePing(): void {
  const link = useStore(connection);
  useEffect(() => {
    if (link === "ok") return undefined;
    const timer = setInterval(() => {
      api.session().then(
        () => outbox.flush(),
        () => undefined,
      );
    }, PING_MS);
    return () => clearInterval(timer);
  }, [link]);
}

function Work({ session: here }: { session: Session }) {
  const at = useStore(route);
  const progress = useProgress();
  usePing();
  const [help, setHelp] = useState(false);
  useKeys("Everywhere", [
    { keys: ["?", "F1"], label: "Show or hide these keys", run: () => setHelp((open) => !open) },
    { keys: ["u", "Ctrl+z"], label: "Undo your last decision", run: () => void undo() },
    ...TABS.map((tab) => ({
      keys: [`g ${tab.key}`],
      label: `Go to ${tab.name}`,
      run: () => visit(tab.view),
    })),
  ]);
  return (
    <>
      <Header progress={progress} onHelp={() => setHelp(true)} />
      <Banner />
      {at.view === "candidates" && <Candidates session={here} at={at} />}
      {at.view === "partners" && <Partners session={here} at={at} />}
      {at.view === "objects" && <Objects session={here} at={at} />}
      {at.view === "progress" && <ProgressView session={here} progress={progress} />}
      {help && <Help onClose={() => setHelp(false)} />}
      <Toast />
    </>
  );
}

/** Where a decision that was taken back can be seen: the views bring it back on the screen. */
async function undo(): Promise<void> {
  try {
    const draft = await undoLast();
    if (!draft) {
      tell("Nothing of yours to undo.");
      return;
    }
    tell(`Undone: ${described(draft)}`);
    if (draft.syn_id === "0") return;
    const at = route.value;
    if (draft.action === "partners") go({ view: "partners", id: draft.syn_id });
    else if (at.view === "candidates" && at.id) go({ id: draft.syn_id });
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error), "problem");
  }
}

function described(draft: Draft): string {
  const what: Record<string, string> = {
    partners: "partners",
    merge: "merge",
    split: "split",
    delete: "delete",
    add_synapse: "added synapse",
    box_done: "box",
  };
  if (draft.action === "verdict") {
    return `${VERDICT_NAMES[draft.new.verdict as Verdict] ?? "verdict"}, synapse ${draft.syn_id}`;
  }
  const name = what[draft.action] ?? draft.action;
  return draft.syn_id === "0" ? name : `${name}, synapse ${draft.syn_id}`;
}
