/** Neuroglancer in the page, at a synapse. */
import { api } from "../lib/api";
import { useAnswer } from "./hooks";

export function Viewer({ id }: { id: string }) {
  const { value, problem } = useAnswer(`viewer/${id}`, () => api.viewer(id));
  return (
    <div class="viewer">
      {value && <iframe src={value.url} title={`Neuroglancer at synapse ${id}`} />}
      {problem && (
        <p class="empty problem" role="alert">
          {problem}
        </p>
      )}
      {!value && !problem && <p class="empty muted">Loading Neuroglancer …</p>}
    </div>
  );
}
