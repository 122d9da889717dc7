/** What is known about a synapse, beside its picture. */
import type { ComponentChildren } from "preact";
import { ago, cellName, ERROR_SHORT, percent, place, VERDICT_NAMES, volume } from "../lib/format";
import type { Decision, Detail, ErrorKind, Verdict, VerdictNew } from "../types";
import { VerdictIcon } from "./icons";

export function Facts({ detail }: { detail: Detail }) {
  return (
    <dl class="facts">
      <Fact name="Presynaptic">{cellName(detail.pre, detail.pre_id)}</Fact>
      <Fact name="Size">
        {volume(detail.size)} in {detail.sections} section{detail.sections === 1 ? "" : "s"}
      </Fact>
      {detail.doubt !== null && (
        <Fact name="Doubt">
          {detail.doubt.toFixed(2)}
          {detail.doubts && <span class="muted"> {detail.doubts.replaceAll("_", " ")}</span>}
        </Fact>
      )}
      {detail.score !== null && <Fact name="Score">{detail.score.toFixed(2)}</Fact>}
      {detail.flags.length > 0 && <Fact name="Flags">{detail.flags.join(", ").replaceAll("_", " ")}</Fact>}
      <Fact name="Place">{place(detail.position_nm)} nm</Fact>
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** One decision in words. */
export function said(decision: Decision): string {
  const now = decision.new;
  switch (decision.action) {
    case "verdict": {
      const error = now.error ? `, ${ERROR_SHORT[now.error as ErrorKind] ?? String(now.error)}` : "";
      const name = VERDICT_NAMES[now.verdict as Verdict]?.toLowerCase() ?? String(now.verdict);
      return `${name}${now.error === "false_positive" ? "" : error}`;
    }
    case "partners": {
      const partners = Array.isArray(now.partners) ? now.partners.length : 0;
      return `${partners} partner${partners === 1 ? "" : "s"}`;
    }
    case "add_synapse":
      return "added a missed synapse";
    case "box_done":
      return "box fully looked at";
    case "merge":
      return `merged ${Array.isArray(now.syn_ids) ? now.syn_ids.join(", ") : ""}`;
    case "split":
      return `split in ${Array.isArray(now.markers) ? now.markers.length : 2}`;
    case "delete":
      return "deleted";
    case "repaint":
      return "repainted";
    case "undo":
      return "undid a decision";
    default:
      return decision.action;
  }
}

export function History({ decisions, now }: { decisions: readonly Decision[]; now: number }) {
  if (!decisions.length) return null;
  return (
    <section class="side-part">
      <h3>Decided before</h3>
      <ul class="history">
        {[...decisions].reverse().map((decision) => (
          <li key={decision.uuid} class={decision.undone ? "undone" : ""}>
            <span>{said(decision)}</span>
            <span class="muted">
              {decision.reviewer}, {ago(decision.time, now)}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

export function PartnerList({ detail }: { detail: Detail }) {
  if (!detail.partners.length) return null;
  return (
    <section class="side-part">
      <h3>Partners, as computed</h3>
      <ul class="history">
        {detail.partners.map((partner) => (
          <li key={partner.post_id}>
            <span>{cellName(partner.post, partner.post_id)}</span>
            <span class="number">{percent(partner.share)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

interface VerdictProps {
  now: VerdictNew | null;
  onVerdict: (verdict: Verdict) => void;
  onError: () => void;
  onNote: () => void;
}

const KEYS = { true: "t", false: "f", unsure: "s" } as const;

export function VerdictButtons({ now, onVerdict, onError, onNote }: VerdictProps) {
  return (
    <div class="verdicts">
      {(["true", "false", "unsure"] as const).map((name) => (
        <button
          key={name}
          type="button"
          class={`verdict ${name}`}
          aria-pressed={now?.verdict === name}
          onClick={() => onVerdict(name)}
        >
          <VerdictIcon verdict={name} />
          {VERDICT_NAMES[name]}
          <kbd>{KEYS[name]}</kbd>
        </button>
      ))}
      <button type="button" class="wide" onClick={onError}>
        Error: {now?.error ? ERROR_SHORT[now.error] : "none"} <kbd>e</kbd>
      </button>
      <button type="button" class="wide" onClick={onNote}>
        {now?.note ? <span class="clip">“{now.note}”</span> : "Note"} <kbd>n</kbd>
      </button>
    </div>
  );
}
