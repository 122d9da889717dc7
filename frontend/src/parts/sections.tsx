/** A ruler of sections: where the object is, and which one is shown. */
import { signed } from "../lib/format";

interface Props {
  dz: number;
  extent: readonly [number, number] | null;
  onGo: (dz: number) => void;
}

const AROUND = 4;
const MOST = 25;

export function Sections({ dz, extent, onGo }: Props) {
  const [first, last] = extent ?? [0, 0];
  const middle = Math.round((first + last) / 2);
  const half = Math.min(Math.floor(MOST / 2), Math.ceil((last - first) / 2) + AROUND);
  const low = Math.min(middle - half, dz);
  const high = Math.max(middle + half, dz);
  const ticks: number[] = [];
  for (let tick = Math.max(low, dz - MOST); tick <= Math.min(high, dz + MOST); tick += 1) ticks.push(tick);
  return (
    <div class="ruler" role="group" aria-label="Sections">
      {ticks.map((tick) => (
        <button
          key={tick}
          type="button"
          tabIndex={-1}
          class={[
            "ruler-tick",
            extent && tick >= first && tick <= last ? "inside" : "",
            tick === dz ? "now" : "",
          ].join(" ")}
          aria-label={`Section ${signed(tick)}`}
          aria-current={tick === dz}
          onClick={() => onGo(tick)}
        >
          <span>{tick === dz ? signed(tick) : ""}</span>
        </button>
      ))}
    </div>
  );
}
