/** Where a section view looks, and between nanometres and pixels. */
import type { Session, Vec } from "../types";

export interface View {
  /** Middle of the picture; z is the middle of a section. */
  at: Vec;
  /** Nanometres along the shorter side. */
  span: number;
}

export const SPANS = [200, 300, 400, 600, 800, 1200, 1600, 2400, 3200, 4800, 6400, 9600] as const;

/** The next span of the list: `step` 1 shows more, -1 less. */
export function zoomed(span: number, step: number): number {
  const list: readonly number[] = SPANS;
  if (step > 0) return list.find((value) => value > span * 1.01) ?? span;
  return list.findLast((value) => value < span * 0.99) ?? span;
}

/** A span in which a synapse and its surroundings are seen at about 200 voxels. */
export function usualSpan(resolution: Vec): number {
  const wanted = Math.max(800, 200 * Math.max(resolution[0], resolution[1]));
  return SPANS.find((value) => value >= wanted * 0.99) ?? SPANS[4];
}

export function clampPlace(at: Vec, session: Session): Vec {
  const { start_nm, size, resolution } = session;
  const inside = (axis: 0 | 1 | 2) => {
    const half = resolution[axis] / 2;
    const low = start_nm[axis] + half;
    const high = start_nm[axis] + size[axis] * resolution[axis] - half;
    return Math.min(Math.max(at[axis], low), high);
  };
  return [inside(0), inside(1), inside(2)];
}

/** `steps` sections further. */
export function atSection(view: View, steps: number, session: Session): View {
  const [x, y, z] = view.at;
  return { ...view, at: clampPlace([x, y, z + steps * session.resolution[2]], session) };
}

export interface Frame {
  width: number;
  height: number;
  view: View;
}

export function scale(frame: Frame): number {
  return Math.min(frame.width, frame.height) / frame.view.span;
}

export function toPixels(frame: Frame, x: number, y: number): [number, number] {
  const k = scale(frame);
  return [
    (x - frame.view.at[0]) * k + frame.width / 2,
    (y - frame.view.at[1]) * k + frame.height / 2,
  ];
}

export function toPlace(frame: Frame, px: number, py: number): Vec {
  const k = scale(frame);
  return [
    frame.view.at[0] + (px - frame.width / 2) / k,
    frame.view.at[1] + (py - frame.height / 2) / k,
    frame.view.at[2],
  ];
}

/** The square picture that covers a frame: its side in pixels (multiples of 64) and in nm. */
export function covering(frame: Frame, ratio: number, most: number): { size: number; span: number } {
  const longer = Math.max(frame.width, frame.height, 1);
  const shorter = Math.max(Math.min(frame.width, frame.height), 1);
  const size = Math.min(most, Math.max(128, Math.ceil((longer * ratio) / 64) * 64));
  return { size, span: Math.round((frame.view.span * longer) / shorter) };
}

/** A round length for a bar of about a fifth of the frame. */
export function barLength(frame: Frame): number {
  const wanted = frame.width / scale(frame) / 5;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [5, 2, 1].find((factor) => factor * power <= wanted) ?? 1;
  return step * power;
}
