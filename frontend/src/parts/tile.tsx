/** One candidate in the grid. */
import { memo } from "../lib/memo";
import { useEffect, useRef, useState } from "preact/hooks";
import { revived, tileUrl } from "../lib/api";
import { cellName, ERROR_SHORT, signed, VERDICT_NAMES, volume } from "../lib/format";
import { picture, prefetch } from "../lib/images";
import { useStore } from "../lib/store";
import type { Item, VerdictNew } from "../types";
import { useWheel } from "./hooks";
import { Icon, VerdictIcon } from "./icons";

export interface TileProps {
  item: Item;
  index: number;
  verdict: VerdictNew | null;
  focused: boolean;
  dz: number;
  span: number;
  size: number;
  outline: boolean;
  reviewer: string;
  onFocus: (index: number) => void;
  onOpen: (index: number) => void;
  onScroll: (index: number, step: number) => void;
  onVerdict: (index: number, verdict: "true" | "false" | "unsure") => void;
}

const BUTTONS = ["true", "false", "unsure"] as const;

function TilePlain(props: TileProps) {
  const { item, index, verdict, focused, dz, span, size, outline, reviewer } = props;
  const element = useRef<HTMLDivElement>(null);
  useWheel(element, (step) => props.onScroll(index, step));
  const url = tileUrl(item.syn_id, dz, size, span, outline);
  const [shown, setShown] = useState<string | null>(null);
  const [failed, setFailed] = useState(false);
  const back = useStore(revived);
  useEffect(() => {
    let live = true;
    setFailed(false);
    picture(url)
      .then(() => live && setShown(url))
      .catch(() => live && setFailed(true));
    if (focused) {
      for (let step = -2; step <= 2; step += 1) {
        prefetch(tileUrl(item.syn_id, dz + step, size, span, outline));
      }
    }
    return () => {
      live = false;
    };
  }, [url, focused, back]);
  useEffect(() => {
    const inDialog = document.activeElement?.closest(".dialog, .tools");
    if (focused && !inDialog) element.current?.focus({ preventScroll: true });
  }, [focused]);
  const state = verdict?.verdict ?? "open";
  const other = item.leased_by && item.leased_by !== reviewer ? item.leased_by : null;
  return (
    <div
      ref={element}
      class={`tile ${state} ${focused ? "focused" : ""}`}
      role="option"
      tabIndex={focused ? 0 : -1}
      aria-selected={focused}
      aria-label={`Synapse ${item.syn_id}, ${VERDICT_NAMES[state as "true"] ?? "open"}`}
      data-syn={item.syn_id}
      data-verdict={state}
      onPointerDown={() => props.onFocus(index)}
      onDblClick={() => props.onOpen(index)}
    >
      <div class="tile-picture">
        {shown && <img src={shown} alt="" draggable={false} />}
        {failed && <span class="tile-failed">no picture</span>}
        {verdict && (
          <span class={`badge ${state}`}>
            <VerdictIcon verdict={verdict.verdict} />
            {verdict.error && verdict.error !== "false_positive" ? ERROR_SHORT[verdict.error] : ""}
            {verdict.note && <Icon name="note" />}
          </span>
        )}
        {other && (
          <span class="badge other">
            <Icon name="lock" />
            {other}
          </span>
        )}
        <span class={dz === 0 ? "tile-dz" : "tile-dz moved"}>{signed(dz)}</span>
        <Extent extent={item.extent} dz={dz} />
        <div class="tile-buttons">
          {BUTTONS.map((name) => (
            <button
              key={name}
              type="button"
              tabIndex={-1}
              class={name}
              title={VERDICT_NAMES[name]}
              aria-label={VERDICT_NAMES[name]}
              aria-pressed={state === name}
              onClick={() => props.onVerdict(index, name)}
            >
              <VerdictIcon verdict={name} />
            </button>
          ))}
        </div>
      </div>
      <div class="tile-text">
        <span class="tile-pre">{cellName(item.pre, item.pre_id)}</span>
        <span class="tile-number">{item.n_partners === null ? "" : `→ ${item.n_partners}`}</span>
        <span class="tile-small">{volume(item.size)}</span>
        <span class="tile-number tile-small">
          {item.doubt === null ? "" : `doubt ${item.doubt.toFixed(2)}`}
        </span>
      </div>
    </div>
  );
}

/** Sections of the object, as a small bar on the right edge. */
function Extent({ extent, dz }: { extent: readonly [number, number]; dz: number }) {
  const low = Math.min(extent[0] - 1, dz);
  const high = Math.max(extent[1] + 1, dz);
  const step = 100 / (high - low + 1);
  return (
    <span class="tile-extent" aria-hidden="true">
      <span
        class="tile-inside"
        style={{ top: `${(extent[0] - low) * step}%`, height: `${(extent[1] - extent[0] + 1) * step}%` }}
      />
      <span class="tile-now" style={{ top: `${(dz - low) * step}%`, height: `${step}%` }} />
    </span>
  );
}

/** Drawn again only if something that it shows has changed. */
export const Tile = memo(TilePlain, (a, b) =>
  (["item", "index", "verdict", "focused", "dz", "span", "size", "outline"] as const).every(
    (name) => a[name] === b[name],
  ),
);
