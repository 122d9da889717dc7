/** Keys that every large picture has. */
import type { Binding } from "./keys";
import { change, settings } from "./settings";
import { atSection, zoomed, type View } from "./view";
import type { Session, Vec } from "../types";

export function lookKeys(
  view: View,
  session: Session,
  home: Vec,
  onView: (view: View) => void,
): Binding[] {
  const step = (by: number) => () => onView(atSection(view, by, session));
  const zoom = (by: number) => () => onView({ ...view, span: zoomed(view.span, by) });
  return [
    { keys: [",", "PageUp"], label: "Section before", run: step(-1), repeats: true },
    { keys: [".", "PageDown"], label: "Section after", run: step(1), repeats: true },
    { keys: ["+", "="], label: "Closer", run: zoom(-1), repeats: true },
    { keys: ["-"], label: "More of the surroundings", run: zoom(1), repeats: true },
    { keys: ["h"], label: "Back to the middle of the synapse", run: () => onView({ ...view, at: home }) },
    {
      keys: ["o"],
      label: "Outlines of objects",
      run: () => change({ outline: !settings.value.outline }),
    },
    { keys: ["c"], label: "Colours of cells", run: () => change({ cells: !settings.value.cells }) },
    {
      keys: ["v"],
      label: "Neuroglancer beside the picture",
      run: () => session.viewer && change({ viewer: !settings.value.viewer }),
    },
  ];
}
