/** Signs that are told apart by shape, not by colour alone. */
import type { JSX } from "preact";
import type { Verdict } from "../types";

const PATHS = {
  true: <path d="M3 8.500l3.500 3.500L13 4.500" />,
  false: <path d="M4 4l8 8M12 4l-8 8" />,
  unsure: (
    <>
      <path d="M5 5.500C5 3.800 6.300 2.800 8 2.800s3 1 3 2.700c0 2.300-3 2.300-3 4.500" />
      <path d="M8 13.100v.1" />
    </>
  ),
  undo: <path d="M6 3L2.500 6.500 6 10M3 6.500h6.500a3.500 3.500 0 0 1 0 7H6" />,
  next: <path d="M6 3l5 5-5 5" />,
  back: <path d="M10 3L5 8l5 5" />,
  plus: <path d="M8 3v10M3 8h10" />,
  minus: <path d="M3 8h10" />,
  note: <path d="M3 3h10v7l-3 3H3zM10 13v-3h3" />,
  lock: <path d="M4 7.500h8V13H4zM5.500 7.500V5.500a2.500 2.500 0 0 1 5 0v2" />,
  outline: <path d="M4 3.500h6l3 4-2 5H5L2.500 8z" />,
  cells: <path d="M2.500 2.500h11v11h-11zM2.500 7.500L8 9l5.500-2.500M8 9v4.500" />,
  down: <path d="M8 3v10M4 9l4 4 4-4" />,
  up: <path d="M8 13V3M4 7l4-4 4 4" />,
  cube: <path d="M8 2l5.500 3v6L8 14l-5.500-3V5zM8 8l5.500-3M8 8v6M8 8L2.500 5" />,
  pin: <path d="M8 14s4.500-4.600 4.500-7.700a4.500 4.500 0 0 0-9 0C3.500 9.400 8 14 8 14zM8 6.300v.1" />,
  box: <path d="M3 5V3h2M11 3h2v2M13 11v2h-2M5 13H3v-2" />,
  help: (
    <>
      <circle cx="8" cy="8" r="6" />
      <path d="M6.200 6.500c0-1 .8-1.700 1.800-1.700s1.800.6 1.800 1.600c0 1.300-1.800 1.400-1.800 2.700M8 11.200v.1" />
    </>
  ),
  merge: <path d="M3 3c0 5 5 3 5 10M13 3c0 5-5 3-5 10" />,
  split: <path d="M8 3v3c0 3-5 2-5 7M8 6c0 3 5 2 5 7" />,
  bin: <path d="M3 4.500h10M6 4.500V3h4v1.500M4.500 4.500L5 13h6l.5-8.500" />,
  brush: <path d="M13 3L7.500 8.500M7.500 8.500c-2-.5-3.500 1-3 4.500 2.500.3 4.500-1 3-4.500z" />,
} satisfies Record<string, JSX.Element>;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      {PATHS[name]}
    </svg>
  );
}

export function VerdictIcon({ verdict }: { verdict: Verdict }) {
  return <Icon name={verdict} />;
}
