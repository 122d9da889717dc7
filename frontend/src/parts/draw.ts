/** Painting of a section: EM, cells, outlines, names, markers, bar. */
import { rgb } from "../lib/colours";
import { length } from "../lib/format";
import { outline, type LabelRaster } from "../lib/raster";
import { barLength, scale, toPixels, type Frame } from "../lib/view";
import type { Vec } from "../types";

export interface CellLook {
  colour: string;
  /** 0 to 1; hatched cells are drawn as an edge alone. */
  alpha: number;
}

export interface Mark {
  at: Vec;
  colour: string;
  text: string;
}

export interface Looks {
  cells: ReadonlyMap<string, CellLook>;
  /** Cells that are named though they have no look of their own. */
  nameAll: boolean;
  synapses: (id: string) => { colour: string; width: number } | null;
  marks: readonly Mark[];
  hovered: string | null;
  pointer: readonly [number, number] | null;
  box: readonly [Vec, Vec] | null;
}

export interface Loaded {
  image: HTMLImageElement;
  at: Vec;
  span: number;
}

const HALO = "rgba(0, 0, 0, 0.85)";

export class SectionPainter {
  private readonly layer = document.createElement("canvas");
  private layerKey: unknown[] = [];
  private readonly paths = new WeakMap<LabelRaster, Map<string, Path2D>>();

  paint(
    context: CanvasRenderingContext2D,
    frame: Frame,
    ratio: number,
    picture: Loaded | null,
    raster: LabelRaster | null,
    looks: Looks,
    rem: number,
  ): void {
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#0b0c0e";
    context.fillRect(0, 0, frame.width, frame.height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (picture) placed(context, frame, picture.image, picture.at, picture.span);
    if (raster && raster.at[2] === frame.view.at[2]) {
      placed(context, frame, this.cells(raster, looks), raster.at, raster.span);
      this.outlines(context, frame, raster, looks, rem);
      names(context, frame, raster, looks, rem);
    }
    if (looks.box) box(context, frame, looks.box, rem);
    marks(context, frame, looks.marks, rem);
    if (looks.pointer) crosshair(context, frame, looks.pointer, rem);
    bar(context, frame, rem);
  }

  /** Cells in their colours; made again only if something of it changes. */
  private cells(raster: LabelRaster, looks: Looks): HTMLCanvasElement {
    const key = [raster, looks.cells, looks.hovered];
    if (key.every((part, i) => part === this.layerKey[i])) return this.layer;
    this.layerKey = key;
    const { size } = raster;
    this.layer.width = size;
    this.layer.height = size;
    const context = this.layer.getContext("2d");
    if (!context) return this.layer;
    const pixels = context.createImageData(size, size);
    const words = new Uint32Array(pixels.data.buffer);
    const colours = new Uint32Array(raster.cells.length + 1);
    raster.cells.forEach((cell, i) => {
      const look = looks.cells.get(cell.id);
      const lit = cell.id === looks.hovered;
      if (look) colours[i + 1] = word(look.colour, Math.min(look.alpha + (lit ? 0.15 : 0), 1));
      else if (lit) colours[i + 1] = word("#ffffff", 0.16);
    });
    for (let i = 0; i < words.length; i += 1) words[i] = colours[raster.cellRaster[i] ?? 0] ?? 0;
    context.putImageData(pixels, 0, 0);
    return this.layer;
  }

  private outlines(
    context: CanvasRenderingContext2D,
    frame: Frame,
    raster: LabelRaster,
    looks: Looks,
    rem: number,
  ): void {
    const pixel = (raster.span / raster.size) * scale(frame);
    const [x, y] = toPixels(frame, raster.at[0] - raster.span / 2, raster.at[1] - raster.span / 2);
    context.save();
    context.translate(x, y);
    context.scale(pixel, pixel);
    context.lineCap = "round";
    raster.synapses.forEach((id, i) => {
      const look = looks.synapses(id);
      if (!look) return;
      const path = this.path(raster, `s${i + 1}`, raster.synapseRaster, i + 1);
      stroke(context, path, HALO, (look.width + 0.12) * (rem / pixel));
      stroke(context, path, look.colour, look.width * (rem / pixel));
    });
    context.restore();
  }

  private path(raster: LabelRaster, key: string, labels: Uint16Array, index: number): Path2D {
    const known = this.paths.get(raster) ?? new Map<string, Path2D>();
    this.paths.set(raster, known);
    let path = known.get(key);
    if (!path) {
      path = new Path2D();
      const edges = outline(labels, raster.size, index);
      for (let i = 0; i + 3 < edges.length; i += 4) {
        path.moveTo(edges[i] ?? 0, edges[i + 1] ?? 0);
        path.lineTo(edges[i + 2] ?? 0, edges[i + 3] ?? 0);
      }
      known.set(key, path);
    }
    return path;
  }
}

function stroke(context: CanvasRenderingContext2D, path: Path2D, colour: string, width: number): void {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
}

function word(colour: string, alpha: number): number {
  const [red, green, blue] = rgb(colour);
  // Little-endian RGBA, as ImageData has it on every machine with a browser.
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function placed(
  context: CanvasRenderingContext2D,
  frame: Frame,
  image: CanvasImageSource,
  at: Vec,
  span: number,
): void {
  const [x, y] = toPixels(frame, at[0] - span / 2, at[1] - span / 2);
  const side = span * scale(frame);
  context.drawImage(image, x, y, side, side);
}

function haloed(context: CanvasRenderingContext2D, text: string, x: number, y: number, rem: number): void {
  context.lineJoin = "round";
  context.lineWidth = 0.22 * rem;
  context.strokeStyle = HALO;
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}

function names(
  context: CanvasRenderingContext2D,
  frame: Frame,
  raster: LabelRaster,
  looks: Looks,
  rem: number,
): void {
  const pixel = (raster.span / raster.size) * scale(frame);
  context.textAlign = "center";
  context.textBaseline = "middle";
  raster.cells.forEach((cell, i) => {
    const look = looks.cells.get(cell.id);
    const spot = raster.names[i + 1];
    if (!spot || (!look && !looks.nameAll && cell.id !== looks.hovered)) return;
    if (spot.room * pixel < (look ? 0.5 : 1.2) * rem) return;
    const x = raster.at[0] + ((spot.x + 0.5) / raster.size - 0.5) * raster.span;
    const y = raster.at[1] + ((spot.y + 0.5) / raster.size - 0.5) * raster.span;
    const [px, py] = toPixels(frame, x, y);
    context.font = look ? `600 ${0.86 * rem}px system-ui, sans-serif` : `${0.78 * rem}px system-ui, sans-serif`;
    const text = cell.name || cell.id;
    const half = context.measureText(text).width / 2 + 4;
    const inside = Math.min(Math.max(px, half), frame.width - half);
    const overBar = py > frame.height - 2.4 * rem && inside - half < frame.width / 4;
    if (overBar) return;
    haloed(context, text, inside, Math.min(Math.max(py, rem), frame.height - rem), rem);
  });
}

function marks(
  context: CanvasRenderingContext2D,
  frame: Frame,
  list: readonly Mark[],
  rem: number,
): void {
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const mark of list) {
    const [x, y] = toPixels(frame, mark.at[0], mark.at[1]);
    const here = Math.abs(mark.at[2] - frame.view.at[2]) < 1e-6;
    context.beginPath();
    context.arc(x, y, (here ? 0.62 : 0.42) * rem, 0, 2 * Math.PI);
    context.globalAlpha = here ? 1 : 0.55;
    context.lineWidth = 0.2 * rem;
    context.strokeStyle = "#000";
    context.stroke();
    context.fillStyle = here ? mark.colour : "#16181b";
    context.fill();
    context.lineWidth = 0.1 * rem;
    context.strokeStyle = here ? "#fff" : mark.colour;
    context.stroke();
    if (here) {
      context.font = `700 ${0.72 * rem}px system-ui, sans-serif`;
      context.fillStyle = "#000";
      context.fillText(mark.text, x, y + 0.04 * rem);
    }
    context.globalAlpha = 1;
  }
}

function box(
  context: CanvasRenderingContext2D,
  frame: Frame,
  [start, stop]: readonly [Vec, Vec],
  rem: number,
): void {
  const [x0, y0] = toPixels(frame, start[0], start[1]);
  const [x1, y1] = toPixels(frame, stop[0], stop[1]);
  context.setLineDash([0.6 * rem, 0.4 * rem]);
  context.lineWidth = 0.12 * rem;
  context.strokeStyle = "#56b4e9";
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
}

function crosshair(
  context: CanvasRenderingContext2D,
  frame: Frame,
  [x_nm, y_nm]: readonly [number, number],
  rem: number,
): void {
  const [x, y] = toPixels(frame, x_nm, y_nm);
  for (const [colour, width] of [
    ["#000", 0.28],
    ["#fff", 0.12],
  ] as const) {
    context.strokeStyle = colour;
    context.lineWidth = width * rem;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]] as const) {
      context.moveTo(x + 0.4 * rem * dx, y + 0.4 * rem * dy);
      context.lineTo(x + 1.3 * rem * dx, y + 1.3 * rem * dy);
    }
    context.stroke();
  }
}

function bar(context: CanvasRenderingContext2D, frame: Frame, rem: number): void {
  const nm = barLength(frame);
  const width = nm * scale(frame);
  const [x, y] = [rem, frame.height - rem];
  context.fillStyle = HALO;
  context.fillRect(x - 2, y - 2, width + 4, 0.25 * rem + 4);
  context.fillStyle = "#fff";
  context.fillRect(x, y, width, 0.25 * rem);
  context.font = `600 ${0.82 * rem}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  haloed(context, length(nm), x + width / 2, y - 0.25 * rem, rem);
}
