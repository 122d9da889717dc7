/** The same colours as in the pictures and in Neuroglancer (cnapse/viewing/palette.py). */

export const PRESYNAPTIC = "#0072b2";
export const SYNAPSE = "#ffd400";
export const POSTSYNAPTIC = [
  "#009e73",
  "#cc79a7",
  "#999933",
  "#882255",
  "#56b4e9",
  "#117733",
  "#aa4499",
  "#88ccee",
] as const;

/** Groups of markers: told apart by their letter as well. */
export const MARKERS = ["#56b4e9", "#e69f00", "#cc79a7", "#f0e442"] as const;
export const MARKER_NAMES = ["A", "B", "C", "D"] as const;

export function partnerColour(number: number): string {
  return POSTSYNAPTIC[number % POSTSYNAPTIC.length] ?? POSTSYNAPTIC[0];
}

export function rgb(colour: string): readonly [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}
