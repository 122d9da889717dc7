/** Partners with their shares as bars. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { partnerColour } from "../lib/colours";
import { cellName, percent } from "../lib/format";
import { parseShare, sharesNow, type Plan, type Row } from "../lib/shares";
import { tell } from "../lib/work";

interface Props {
  plan: Plan;
  row: number;
  editing: string | null;
  onRow: (index: number) => void;
  onToggle: (index: number) => void;
  onEdit: (id: string | null) => void;
  onShare: (id: string, typed: number | null) => void;
  onAdd: () => void;
}

export function PartnerTable(props: Props) {
  const { plan, row, editing, onAdd } = props;
  const { shares, scaled } = sharesNow(plan);
  const kept = plan.rows.filter((one) => one.kept).length;
  return (
    <section class="side-part partners">
      <h3>
        Partners <span class="muted">{kept} kept, shares of the transmitter</span>
      </h3>
      <ul class="partner-list" aria-label="Partners">
        {plan.rows.map((one, index) => (
          <PartnerRow
            key={one.id}
            {...props}
            one={one}
            index={index}
            share={shares.get(one.id) ?? 0}
            chosen={index === row}
            open={editing === one.id}
          />
        ))}
      </ul>
      <div class="partner-foot">
        <button type="button" onClick={onAdd}>
          Add <kbd>a</kbd>
        </button>
        <span class={scaled ? "warn small" : "muted small"} role="status">
          {scaled ? "Typed shares were scaled to 100 %" : "or click its cell in the picture"}
        </span>
      </div>
    </section>
  );
}

interface RowProps extends Props {
  one: Row;
  index: number;
  share: number;
  chosen: boolean;
  open: boolean;
}

function PartnerRow({ one, index, share, chosen, open, onRow, onToggle, onEdit, onShare }: RowProps) {
  const colour = partnerColour(index);
  const name = cellName(one.name, one.id);
  return (
    <li
      class={`partner ${one.kept ? "" : "dropped"} ${chosen ? "chosen" : ""}`}
      data-post={one.id}
      onPointerDown={() => onRow(index)}
    >
      <kbd>{index < 9 ? index + 1 : ""}</kbd>
      <span class="swatch" style={{ background: one.kept ? colour : "transparent", borderColor: colour }} />
      <span class="partner-name clip" title={`${name} (${one.id})`}>
        {name}
      </span>
      {one.predicted === null && <span class="tag">added</span>}
      {open ? (
        <ShareField share={share} name={name} onDone={(typed) => onShare(one.id, typed)} onCancel={() => onEdit(null)} />
      ) : (
        <button
          type="button"
          class={one.typed === null ? "share" : "share typed"}
          disabled={!one.kept}
          onClick={() => onEdit(one.id)}
          title={one.typed === null ? "Type a share (e)" : "Typed by you"}
          aria-label={`Share of ${name}: ${percent(share)}`}
        >
          {one.kept ? percent(share) : "–"}
        </button>
      )}
      <button
        type="button"
        class="keep"
        aria-label={`${one.kept ? "Drop" : "Keep"} ${name}`}
        onClick={() => onToggle(index)}
      >
        {one.kept ? "Drop" : "Keep"}
      </button>
      <span class="partner-bar" aria-hidden="true">
        <span class="partner-fill" style={{ width: `${100 * share}%`, background: colour }} />
        {one.predicted !== null && (
          <span class="partner-was" style={{ left: `${100 * one.predicted}%` }} title="As computed" />
        )}
      </span>
    </li>
  );
}

interface FieldProps {
  share: number;
  name: string;
  onDone: (typed: number | null) => void;
  onCancel: () => void;
}

function ShareField({ share, name, onDone, onCancel }: FieldProps) {
  const [text, setText] = useState((100 * share).toFixed(1));
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => field.current?.select(), []);
  const commit = () => {
    if (!text.trim()) return onDone(null);
    const typed = parseShare(text.includes("%") ? text : `${text}%`);
    if (typed === null) return tell("A share is a number from 0 to 100.", "problem");
    return onDone(typed);
  };
  return (
    <input
      ref={field}
      class="share-field"
      value={text}
      inputMode="decimal"
      aria-label={`Share of ${name} in percent; empty: as computed`}
      onInput={(event) => setText(event.currentTarget.value)}
      onBlur={onCancel}
      onKeyDown={(event) => {
        if (event.key === "Enter") {
          event.preventDefault();
          commit();
        } else if (event.key === "Escape") onCancel();
      }}
    />
  );
}
