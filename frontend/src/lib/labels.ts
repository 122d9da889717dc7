/** Labels of sections, kept for a while. */
import { api } from "./api";
import { labelRaster, type LabelRaster } from "./raster";
import type { Vec } from "../types";

const MOST = 48;
const asked = new Map<string, Promise<LabelRaster>>();
const here = new Map<string, LabelRaster>();

const key = (at: Vec, size: number, span: number) => `${at.join()};${size};${span}`;

export function labelsAt(at: Vec, size: number, span: number): Promise<LabelRaster> {
  const name = key(at, size, span);
  const known = asked.get(name);
  if (known) return known;
  const made = api.labels(at, size, span).then((labels) => {
    const raster = labelRaster(labels, at, span);
    here.set(name, raster);
    return raster;
  });
  made.catch(() => asked.delete(name));
  asked.set(name, made);
  for (const old of asked.keys()) {
    if (asked.size <= MOST) break;
    asked.delete(old);
    here.delete(old);
  }
  return made;
}

export function labelsNow(at: Vec, size: number, span: number): LabelRaster | null {
  return here.get(key(at, size, span)) ?? null;
}
