/** Order and filters of a list. */
import { useEffect, useState } from "preact/hooks";
import type { Wanted } from "../lib/api";
import { ORDERS, SHOWN } from "../lib/wanted";
import { Icon } from "./icons";

interface Props {
  wanted: Wanted;
  flags: readonly string[];
  onChange: (wanted: Wanted) => void;
  /** The list of partners has no verdicts to choose from. */
  plain?: boolean;
}

export function Filters({ wanted, flags, onChange, plain }: Props) {
  const set = (part: Partial<Wanted>) => onChange({ ...wanted, ...part });
  const order = (name: string) => {
    const descending = ORDERS.find((known) => known.name === name)?.descending ?? true;
    set({ order: name, descending });
  };
  return (
    <div class="filters" role="group" aria-label="Order and filters">
      <label>
        Order
        <select value={wanted.order} onChange={(event) => order(event.currentTarget.value)}>
          {ORDERS.map((known) => (
            <option key={known.name} value={known.name}>
              {known.label}
            </option>
          ))}
        </select>
      </label>
      <button
        type="button"
        class="square"
        onClick={() => set({ descending: !wanted.descending })}
        aria-label={wanted.descending ? "Largest first" : "Smallest first"}
        title={wanted.descending ? "Largest first" : "Smallest first"}
      >
        <Icon name={wanted.descending ? "down" : "up"} />
      </button>
      {!plain && (
        <label>
          Show
          <select
            value={wanted.verdict}
            onChange={(event) => set({ verdict: event.currentTarget.value })}
          >
            {SHOWN.map((known) => (
              <option key={known.name} value={known.name}>
                {known.label}
              </option>
            ))}
          </select>
        </label>
      )}
      <Field label="Cell" id="filter-cell" hint="name or id" value={wanted.cell} onSet={(cell) => set({ cell })} />
      <Field
        label="Size"
        hint="from"
        narrow
        value={wanted.min_size}
        onSet={(min_size) => set({ min_size: numeral(min_size) })}
      />
      <Field
        label="–"
        hint="to, nm³"
        narrow
        value={wanted.max_size}
        onSet={(max_size) => set({ max_size: numeral(max_size) })}
      />
      <label>
        Flag
        <select value={wanted.flag} onChange={(event) => set({ flag: event.currentTarget.value })}>
          <option value="">any</option>
          {flags.map((flag) => (
            <option key={flag} value={flag}>
              {flag.replaceAll("_", " ")}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

function numeral(text: string): string {
  const value = Number(text);
  return text.trim() && Number.isFinite(value) && value >= 0 ? String(value) : "";
}

interface FieldProps {
  label: string;
  value: string;
  hint: string;
  onSet: (value: string) => void;
  narrow?: boolean;
  id?: string;
}

/** A field that takes effect with Enter or when one leaves it. */
function Field({ label, value, hint, onSet, narrow, id }: FieldProps) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const commit = () => {
    if (text !== value) onSet(text.trim());
  };
  return (
    <label>
      {label}
      <input
        id={id}
        class={narrow ? "narrow" : ""}
        value={text}
        placeholder={hint}
        aria-label={label === "–" ? "Size to" : label}
        spellcheck={false}
        onInput={(event) => setText(event.currentTarget.value)}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === "Enter") event.currentTarget.blur();
          if (event.key === "Escape") {
            setText(value);
            event.currentTarget.blur();
          }
        }}
      />
    </label>
  );
}
