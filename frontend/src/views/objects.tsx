/** Objects that are wrong: merged, split, deleted, repainted. */
import { useEffect } from "preact/hooks";
import { api, tileUrl } from "../lib/api";
import { cellName, ERROR_NAMES, volume } from "../lib/format";
import { useKeys } from "../lib/keys";
import { go, type Route } from "../lib/route";
import { settings } from "../lib/settings";
import { useStore } from "../lib/store";
import { usualSpan } from "../lib/view";
import { answered, beginTimer } from "../lib/work";
import { useAnswer } from "../parts/hooks";
import { VerdictIcon } from "../parts/icons";
import { ERROR_KINDS, type Detail, type Page, type Session } from "../types";
import { ObjectOf } from "./objectof";

export function Objects({ session, at }: { session: Session; at: Route }) {
  if (at.id) return <One session={session} id={at.id} />;
  return <ToCorrect session={session} kind={at.query.error ?? "any"} />;
}

const MOST = 200;

/** What reviewers have marked in the first loop as wrong in its object. */
function ToCorrect({ session, kind }: { session: Session; kind: string }) {
  const look = useStore(settings);
  const taken = useStore(answered);
  const { value, problem, again } = useAnswer<Page>(`errors/${kind}`, () =>
    api.candidates({ order: "place", descending: false, verdict: "all", error: kind }, 0, MOST),
  );
  useEffect(() => {
    if (taken) again();
  }, [taken]);
  const kinds = ERROR_KINDS.filter((name) => name !== "false_positive");
  const items = (value?.items ?? []).filter((item) => item.error !== "false_positive");
  const first = items[0];
  useKeys("Objects", [
    { keys: ["Enter"], label: "The first object", run: () => first && go({ id: first.syn_id }) },
  ]);
  return (
    <main class="objects">
      <div class="tools">
        <label>
          Marked as
          <select value={kind} onChange={(event) => go({ query: { error: event.currentTarget.value } }, true)}>
            <option value="any">any error of the object</option>
            {kinds.map((name) => (
              <option key={name} value={name}>
                {ERROR_NAMES[name]}
              </option>
            ))}
          </select>
        </label>
        <span class="muted">Objects that reviewers marked with an error (key e among the candidates).</span>
      </div>
      {problem && (
        <p class="empty problem" role="alert">
          {problem}
        </p>
      )}
      {!problem && value && !items.length && (
        <div class="empty">
          <h2>Nothing marked</h2>
          <p class="muted">
            Mark objects with <kbd>e</kbd> among the candidates, or open one large and press <kbd>m</kbd>.
          </p>
        </div>
      )}
      <ul class="cards">
        {items.map((item) => (
          <li key={item.syn_id}>
            <a class="card" href={`#/objects/${item.syn_id}`}>
              <img
                src={tileUrl(item.syn_id, 0, 192, look.span ?? usualSpan(session.resolution), true)}
                alt=""
                loading="lazy"
              />
              <span>
                <b>{item.syn_id}</b>
                <span class="clip">{cellName(item.pre, item.pre_id)}</span>
                <span class="muted">{volume(item.size)}</span>
                {item.error && (
                  <span class="tag">
                    {item.verdict && <VerdictIcon verdict={item.verdict} />} {ERROR_NAMES[item.error]}
                  </span>
                )}
                {item.note && <span class="muted clip">“{item.note}”</span>}
              </span>
            </a>
          </li>
        ))}
      </ul>
    </main>
  );
}

function One({ session, id }: { session: Session; id: string }) {
  const taken = useStore(answered);
  const { value: detail, problem, again } = useAnswer<Detail>(`synapse/${id}`, () => api.synapse(id));
  useEffect(() => {
    if (taken) again();
  }, [taken]);
  useEffect(() => beginTimer(), [id]);
  if (!detail) {
    return (
      <main class="work">
        <div class="empty" role={problem ? "alert" : "status"}>
          <p class={problem ? "problem" : "muted"}>{problem ?? "Loading …"}</p>
          <button type="button" onClick={() => go({ id: null, query: {} })}>
            All objects
          </button>
        </div>
      </main>
    );
  }
  return <ObjectOf key={id} session={session} detail={detail} />;
}
