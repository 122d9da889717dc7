/** Switches over a large picture. */
import { change, settings } from "../lib/settings";
import { useStore } from "../lib/store";
import { length } from "../lib/format";
import { zoomed, type View } from "../lib/view";
import type { Session } from "../types";
import { Icon, type IconName } from "./icons";

interface Props {
  session: Session;
  view: View;
  onView: (view: View) => void;
}

export function PictureTools({ session, view, onView }: Props) {
  const look = useStore(settings);
  return (
    <div class="look" role="group" aria-label="Look">
      <Square icon="plus" name="Closer (+)" onClick={() => onView({ ...view, span: zoomed(view.span, -1) })} />
      <span class="look-span">{length(view.span)}</span>
      <Square icon="minus" name="More around it (−)" onClick={() => onView({ ...view, span: zoomed(view.span, 1) })} />
      <Square icon="outline" name="Outlines (o)" on={look.outline} onClick={() => change({ outline: !look.outline })} />
      <Square icon="cells" name="Cells (c)" on={look.cells} onClick={() => change({ cells: !look.cells })} />
      {session.viewer && (
        <Square icon="cube" name="Neuroglancer (v)" on={look.viewer} onClick={() => change({ viewer: !look.viewer })} />
      )}
    </div>
  );
}

interface SquareProps {
  icon: IconName;
  name: string;
  on?: boolean;
  onClick: () => void;
}

export function Square({ icon, name, on, onClick }: SquareProps) {
  return (
    <button type="button" class="square" aria-label={name} title={name} aria-pressed={on} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}
