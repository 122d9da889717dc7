/** How far everybody is, what was decided, and how to take it out. */
import { useEffect, useState } from "preact/hooks";
import { api } from "../lib/api";
import { ago, count, perMinute } from "../lib/format";
import { useStore } from "../lib/store";
import { answered, takeBack, tell } from "../lib/work";
import { useNow } from "../parts/hooks";
import { Icon } from "../parts/icons";
import { said } from "../parts/side";
import type { Decision, Progress, Session } from "../types";

export function ProgressView({ session, progress }: { session: Session; progress: Progress | null }) {
  const now = useNow(10);
  if (!progress) return <main class="progress empty muted">Loading …</main>;
  const { candidates, partners, objects } = progress;
  return (
    <main class="progress">
      <div class="panels">
        <section class="panel">
          <h2>Candidates</h2>
          <Stack
            total={progress.total}
            parts={[
              ["true", candidates.true, "True"],
              ["false", candidates.false, "False"],
              ["unsure", candidates.unsure, "Unsure"],
            ]}
          />
          <p class="muted">
            {count(candidates.left)} to do · {count(candidates.added)} missed ones added ·{" "}
            {count(candidates.boxes)} boxes fully looked at
          </p>
        </section>
        <section class="panel">
          <h2>Partners</h2>
          <Stack
            total={partners.total}
            parts={[
              ["confirmed", partners.confirmed, "Confirmed"],
              ["corrected", partners.corrected, "Corrected"],
            ]}
          />
          <p class="muted">{count(partners.left)} synapses to do</p>
        </section>
        <section class="panel">
          <h2>Objects</h2>
          <dl class="counts">
            {(["merge", "split", "delete", "repaint"] as const).map((name) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{count(objects[name])}</dd>
              </div>
            ))}
          </dl>
        </section>
        <section class="panel">
          <h2>Decisions a minute, last hour</h2>
          <Minutes minutes={progress.minutes} now={now} />
        </section>
      </div>
      <div class="lower">
        <section class="panel grow">
          <h2>Reviewers</h2>
          <table>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col" class="number">Candidates</th>
                <th scope="col" class="number">Partners</th>
                <th scope="col" class="number">Objects</th>
                <th scope="col" class="number">A minute</th>
                <th scope="col" class="number">Last</th>
              </tr>
            </thead>
            <tbody>
              {progress.reviewers.map((person) => (
                <tr key={person.name}>
                  <td class="clip">{person.name}</td>
                  <td class="number">{count(person.candidates)}</td>
                  <td class="number">{count(person.partners)}</td>
                  <td class="number">{count(person.objects)}</td>
                  <td class="number">{perMinute(person.per_minute)}</td>
                  <td class="number">{person.last ? ago(person.last, now) : "–"}</td>
                </tr>
              ))}
              {!progress.reviewers.length && (
                <tr>
                  <td colSpan={6} class="muted">
                    Nothing decided yet.
                  </td>
                </tr>
              )}
            </tbody>
          </table>
          <Disagreements progress={progress} />
          <h2>Export the decisions</h2>
          <div class="exports">
            {(["csv", "json", "cave"] as const).map((format) => (
              <a key={format} class="button" href={`/api/export?format=${format}`} download>
                <Icon name="down" /> {{ csv: "CSV", json: "JSON", cave: "CAVE table" }[format]}
              </a>
            ))}
          </div>
          <p class="muted small">
            <code>cnapse apply</code> makes the corrected layer and tables of {session.title}.
          </p>
        </section>
        <Log now={now} />
      </div>
    </main>
  );
}

function Stack({ total, parts }: { total: number; parts: readonly (readonly [string, number, string])[] }) {
  const decided = parts.reduce((sum, [, value]) => sum + value, 0);
  return (
    <>
      <p class="big">
        {count(decided)} <span class="muted">of {count(total)}</span>
      </p>
      <div class="stack" role="img" aria-label={parts.map(([, value, name]) => `${name} ${value}`).join(", ")}>
        {parts.map(([key, value]) => (
          <span key={key} class={`stack-${key}`} style={{ width: `${total ? (100 * value) / total : 0}%` }} />
        ))}
      </div>
      <ul class="legend">
        {parts.map(([key, value, name]) => (
          <li key={key}>
            <span class={`swatch stack-${key}`} /> {name} <b>{count(value)}</b>
          </li>
        ))}
      </ul>
    </>
  );
}

const SPAN = 60;

function Minutes({ minutes, now }: { minutes: Progress["minutes"]; now: number }) {
  const bins = new Array<number>(SPAN).fill(0);
  const last = Math.floor(now / 60_000);
  for (const [minute, made] of minutes) {
    const at = SPAN - 1 - (last - Math.floor(Date.parse(minute) / 60_000));
    if (at >= 0 && at < SPAN) bins[at] = made;
  }
  const most = Math.max(...bins, 4);
  return (
    <div class="minutes">
      <svg viewBox="0 0 120 40" preserveAspectRatio="none" role="img" aria-label={`At most ${most} a minute`}>
        {bins.map((made, i) => (
          <rect key={i} x={2 * i + 0.2} width={1.6} y={40 - (40 * made) / most} height={(40 * made) / most} />
        ))}
      </svg>
      <p class="muted small minutes-axis">
        <span>1 h ago</span>
        <span>top: {count(most)}</span>
        <span>now</span>
      </p>
    </div>
  );
}

function Disagreements({ progress }: { progress: Progress }) {
  if (!progress.disagreements.length) return null;
  return (
    <>
      <h2>Two reviewers, two answers</h2>
      <ul class="history">
        {progress.disagreements.map((one) => (
          <li key={`${one.loop}/${one.syn_id}`}>
            <a href={`#/${one.loop}/${one.syn_id}`}>{one.syn_id}</a>
            <span class="muted">
              {one.first.reviewer}: {brief(one.first.new)} · {one.last.reviewer}: {brief(one.last.new)}
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}

function brief(payload: Record<string, unknown>): string {
  if (typeof payload.verdict === "string") return payload.verdict;
  return Array.isArray(payload.partners) ? `${payload.partners.length} partners` : "changed";
}

const PAGE = 50;

/** The newest decisions, each of which can be taken back. */
function Log({ now }: { now: number }) {
  const taken = useStore(answered);
  const [rows, setRows] = useState<readonly Decision[]>([]);
  const [more, setMore] = useState(true);
  const load = async (before?: number) => {
    try {
      const { decisions } = await api.newest(PAGE, before);
      setRows((old) => (before === undefined ? decisions : [...old, ...decisions]));
      setMore(decisions.length === PAGE);
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error), "problem");
    }
  };
  useEffect(() => void load(), [taken]);
  return (
    <section class="panel grow log">
      <h2>Decisions</h2>
      <div class="log-rows">
        <table>
          <tbody>
            {rows.map((row) => (
              <tr key={row.uuid} class={row.undone ? "undone" : ""}>
                <td class="muted nowrap">{ago(row.time, now)}</td>
                <td class="clip">{row.reviewer}</td>
                <td>
                  {row.syn_id === "0" || row.syn_id === "" ? (
                    ""
                  ) : (
                    <a href={`#/${row.loop}/${row.syn_id}`}>{row.syn_id}</a>
                  )}
                </td>
                <td class="clip wide-cell">{said(row)}</td>
                <td class="number">
                  {row.action !== "undo" && !row.undone && (
                    <button type="button" onClick={() => takeBack(row)} aria-label={`Undo ${said(row)} of ${row.syn_id}`}>
                      <Icon name="undo" /> Undo
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
        {more && rows.length > 0 && (
          <button type="button" onClick={() => void load(rows.at(-1)?.id)}>
            Older ones
          </button>
        )}
        {!rows.length && <p class="muted">Nothing decided yet.</p>}
      </div>
    </section>
  );
}
