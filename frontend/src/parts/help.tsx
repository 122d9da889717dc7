/** Keys that work just now. */
import { keyName, layers, useKeys } from "../lib/keys";
import { useStore } from "../lib/store";
import { Dialog } from "./dialog";

export function Help({ onClose }: { onClose: () => void }) {
  useKeys("Dialog", [{ keys: ["?", "F1"], label: "", run: onClose }]);
  const groups = new Map<string, Map<string, string>>();
  for (const layer of [...useStore(layers)].reverse()) {
    if (layer.group === "Dialog") continue;
    const rows = groups.get(layer.group) ?? new Map<string, string>();
    for (const binding of layer.bindings) {
      if (binding.label) rows.set(binding.label, binding.shown ?? binding.keys.map(keyName).join("  "));
    }
    groups.set(layer.group, rows);
  }
  return (
    <Dialog title="Keys" onClose={onClose} wide>
      <div class="help">
        {[...groups].map(([group, rows]) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {[...rows].map(([label, keys]) => (
                <div class="help-row" key={label}>
                  <dt>
                    {keys.split("  ").map((key) => (
                      <kbd key={key}>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{label}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
        <section>
          <h3>Mouse</h3>
          <dl>
            <div class="help-row">
              <dt>
                <kbd>Wheel</kbd>
              </dt>
              <dd>Sections of the picture under the pointer</dd>
            </div>
            <div class="help-row">
              <dt>
                <kbd>Ctrl+Wheel</kbd>
              </dt>
              <dd>Show less or more of the surroundings</dd>
            </div>
            <div class="help-row">
              <dt>
                <kbd>Drag</kbd>
              </dt>
              <dd>Move the large picture</dd>
            </div>
          </dl>
        </section>
      </div>
    </Dialog>
  );
}
