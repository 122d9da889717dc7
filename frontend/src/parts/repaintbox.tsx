/** How voxels are painted anew: out to an editor, and back. */
import type { Detail, Session, Vec } from "../types";
import { Dialog } from "./dialog";

interface Props {
  session: Session;
  detail: Detail;
  onClose: () => void;
}

/** The object's box with a margin, in voxels of the layer. */
export function voxelBox(session: Session, detail: Detail): [Vec, Vec] {
  const h = session.resolution;
  const around = detail.box_nm ?? [detail.position_nm, detail.position_nm];
  const margin = 200;
  const edge = (corner: Vec, sign: number): Vec =>
    [0, 1, 2].map((axis) => {
      const size = h[axis] ?? 1;
      const origin = session.start_nm[axis] ?? 0;
      const first = Math.round(origin / size);
      const nm = (corner[axis] ?? 0) + sign * margin;
      const index = sign < 0 ? Math.floor(nm / size) : Math.ceil(nm / size);
      return Math.min(Math.max(index, first), first + (session.size[axis] ?? 0));
    }) as unknown as Vec;
  return [edge(around[0], -1), edge(around[1], 1)];
}

export function RepaintBox({ session, detail, onClose }: Props) {
  const [start, stop] = voxelBox(session, detail);
  const box = `${start.join(" ")} ${stop.join(" ")}`;
  return (
    <Dialog title="Repaint this object" onClose={onClose} wide>
      <ol class="steps">
        <li>
          Write the box around it to a file that napari, Fiji or VAST open, or without .tif to layers for
          Neuroglancer and webKnossos:
          <pre>cnapse repaint export cnapse.toml --box {box} -o box.tif</pre>
        </li>
        <li>
          Paint in the file of labels. A list beside it tells which number is which object (this one is{" "}
          {detail.syn_id}); 0 is no synapse, a new number a new one.
        </li>
        <li>
          Bring it back. It becomes a decision like all others:
          <pre>cnapse repaint import cnapse.toml box.tif</pre>
        </li>
      </ol>
    </Dialog>
  );
}
