/** One EM section that one scrolls, moves, zooms, and points into. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { placeUrl, revived } from "../lib/api";
import { signed } from "../lib/format";
import { picture, pictureNow, prefetch } from "../lib/images";
import { labelsAt, labelsNow } from "../lib/labels";
import { pick, type LabelRaster, type Picked } from "../lib/raster";
import { useStore } from "../lib/store";
import { atSection, clampPlace, covering, toPlace, zoomed, type Frame, type View } from "../lib/view";
import type { Session, Vec } from "../types";
import { SectionPainter, type Loaded, type Looks } from "./draw";
import { useBox, useWheel } from "./hooks";
import { Sections } from "./sections";

interface Props {
  session: Session;
  view: View;
  onView: (view: View) => void;
  looks: Omit<Looks, "hovered">;
  label: string;
  /** Sections of the object, from its own (0). */
  home: Vec;
  extent: readonly [number, number] | null;
  /** A click that is no drag. */
  onPick?: (picked: Picked, event: PointerEvent) => void;
  /** Told of the labels on the screen, for pointing with the keyboard and lists of cells. */
  onRaster?: (raster: LabelRaster | null) => void;
  /** Clicks point, so the cursor is a cross. */
  pointing?: boolean;
}

let tileNow: { size: number; span: number } | null = null;

/** Size and span of the last picture: the next synapse will be asked for the same. */
export function lastTile(): { size: number; span: number } | null {
  return tileNow;
}

const SETTLE_MS = 90;
const DRAG_PX = 4;

export function SectionView(props: Props) {
  const { session, view, onView, looks, label, home, extent, onPick, pointing } = props;
  const [holder, size] = useBox<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const painter = useMemo(() => new SectionPainter(), []);
  const frame: Frame = { width: size.width, height: size.height, view };
  const shown = useShown(session, frame);
  const { onRaster } = props;
  useLayoutEffect(() => onRaster?.(shown.raster), [shown.raster]);
  const [under, setUnder] = useState<Picked | null>(null);
  const hovered = under?.cell?.id ?? null;

  useLayoutEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || size.width < 2) return;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
    if (element.width !== width || element.height !== height) Object.assign(element, { width, height });
    const all: Looks = { ...looks, hovered };
    painter.paint(context, frame, ratio, shown.picture, shown.raster, all, size.rem);
  });

  useWheel(
    holder,
    (steps) => onView(atSection(view, steps, session)),
    (step) => onView({ ...view, span: zoomed(view.span, step) }),
  );
  const drag = useDrag(frame, session, onView, (event, place) => {
    if (onPick && shown.raster) onPick(pick(shown.raster, place[0], place[1]), event);
  });
  const look = (event: PointerEvent) => {
    const place = placeOf(event, frame);
    setUnder(shown.raster ? pick(shown.raster, place[0], place[1]) : null);
  };
  const dz = Math.round((view.at[2] - home[2]) / session.resolution[2]);
  return (
    <div class="section" ref={holder}>
      <canvas
        ref={canvas}
        class={pointing ? "section-canvas pointing" : "section-canvas"}
        role="img"
        aria-label={`${label}, section ${signed(dz)}`}
        onPointerDown={drag.down}
        onPointerMove={(event) => {
          look(event);
          drag.move(event);
        }}
        onPointerUp={drag.up}
        onPointerCancel={drag.cancel}
        onPointerLeave={() => setUnder(null)}
      />
      <div class="section-under" aria-hidden="true">
        {under?.cell ? under.cell.name || under.cell.id : ""}
      </div>
      <Sections dz={dz} extent={extent} onGo={(to) => onView(atSection(view, to - dz, session))} />
      {shown.failed && <div class="section-failed">This section could not be loaded.</div>}
    </div>
  );
}

function placeOf(event: PointerEvent, frame: Frame): Vec {
  const bounds = (event.currentTarget as HTMLElement).getBoundingClientRect();
  return toPlace(frame, event.clientX - bounds.left, event.clientY - bounds.top);
}

/** Moves the view with the pointer; a press without movement is a click. */
function useDrag(
  frame: Frame,
  session: Session,
  onView: (view: View) => void,
  onClick: (event: PointerEvent, place: Vec) => void,
) {
  const from = useRef<{ x: number; y: number; at: Vec; moved: boolean } | null>(null);
  return {
    down: (event: PointerEvent) => {
      if (event.button !== 0) return;
      (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
      from.current = { x: event.clientX, y: event.clientY, at: frame.view.at, moved: false };
    },
    move: (event: PointerEvent) => {
      const start = from.current;
      if (!start) return;
      const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
      if (!start.moved && Math.hypot(dx, dy) < DRAG_PX) return;
      start.moved = true;
      const nm = frame.view.span / Math.min(frame.width, frame.height);
      const at: Vec = [start.at[0] - dx * nm, start.at[1] - dy * nm, frame.view.at[2]];
      onView({ ...frame.view, at: clampPlace(at, session) });
    },
    up: (event: PointerEvent) => {
      const start = from.current;
      from.current = null;
      if (start && !start.moved) onClick(event, placeOf(event, frame));
    },
    cancel: () => {
      from.current = null;
    },
  };
}

interface Shown {
  picture: Loaded | null;
  raster: LabelRaster | null;
  failed: boolean;
}

/** Picture and labels for a frame; until they are here, the last ones. */
function useShown(session: Session, frame: Frame): Shown {
  const [shown, setShown] = useState<Shown>({ picture: null, raster: null, failed: false });
  const { view, width, height } = frame;
  const [x, y, z] = view.at;
  const back = useStore(revived);
  const moving = useRef<{ x: number; y: number; span: number } | null>(null);
  useEffect(() => {
    if (width < 2) return undefined;
    let live = true;
    const at: Vec = [Math.round(x), Math.round(y), z];
    const tile = covering(frame, devicePixelRatio || 1, 1024);
    tileNow = tile;
    const labelSize = Math.min(512, tile.size);
    const url = placeUrl(at, tile.size, tile.span);
    const load = () => {
      picture(url)
        .then((image) => {
          if (live) setShown((old) => ({ ...old, picture: { image, at, span: tile.span }, failed: false }));
          if (live) ahead(session, view, at, tile, labelSize);
        })
        .catch(() => live && setShown((old) => ({ ...old, failed: true })));
      labelsAt(at, labelSize, tile.span)
        .then((raster) => live && setShown((old) => ({ ...old, raster })))
        .catch(() => undefined);
    };
    const image = pictureNow(url);
    if (image) {
      const raster = labelsNow(at, labelSize, tile.span);
      setShown((old) => ({
        picture: { image, at, span: tile.span },
        raster: raster ?? old.raster,
        failed: false,
      }));
    }
    // While one drags or zooms, only the place where it ends is asked for; sections come at once.
    const last = moving.current;
    const still = !last || (last.x === x && last.y === y && last.span === view.span);
    moving.current = { x, y, span: view.span };
    const timer = still ? undefined : setTimeout(load, SETTLE_MS);
    if (still) load();
    return () => {
      live = false;
      clearTimeout(timer);
    };
  }, [x, y, z, view.span, width, height, session, back]);
  return shown;
}

/** The sections above and below, before they are asked for. */
function ahead(
  session: Session,
  view: View,
  at: Vec,
  tile: { size: number; span: number },
  labelSize: number,
): void {
  for (const step of [1, -1]) {
    const z = atSection(view, step, session).at[2];
    if (z === at[2]) continue;
    prefetch(placeUrl([at[0], at[1], z], tile.size, tile.span));
    labelsAt([at[0], at[1], z], labelSize, tile.span).catch(() => undefined);
  }
}
