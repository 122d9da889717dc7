/** A cell of the section, chosen by name. */
import { useState } from "preact/hooks";
import { Dialog } from "./dialog";

interface Cell {
  id: string;
  name: string;
}

interface Props {
  title: string;
  cells: readonly Cell[];
  onChoose: (cell: Cell) => void;
  onClose: () => void;
}

const MOST = 60;

export function CellBox({ title, cells, onChoose, onClose }: Props) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const wanted = text.trim().toLowerCase();
  const found = cells
    .filter((cell) => cell.name.toLowerCase().includes(wanted) || cell.id.startsWith(wanted))
    .slice(0, MOST);
  const chosen = Math.min(at, Math.max(found.length - 1, 0));
  const key = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setAt(Math.min(Math.max(chosen + step, 0), found.length - 1));
    else if (event.key === "Enter") {
      const cell = found[chosen];
      if (cell) onChoose(cell);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <input
        data-first
        value={text}
        placeholder="name or id"
        role="combobox"
        aria-expanded="true"
        aria-controls="cell-list"
        aria-activedescendant={found.length ? `cell-${chosen}` : undefined}
        aria-label="Name or id of the cell"
        spellcheck={false}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={key}
      />
      <ul class="cell-list" id="cell-list" role="listbox" aria-label="Cells of this section">
        {found.map((cell, index) => (
          <li
            key={cell.id}
            id={`cell-${index}`}
            role="option"
            aria-selected={index === chosen}
            onClick={() => onChoose(cell)}
          >
            <span class="clip">{cell.name || cell.id}</span>
            {cell.name && cell.name !== cell.id && <span class="muted small">{cell.id}</span>}
          </li>
        ))}
        {!found.length && <li class="muted">No such cell in this section.</li>}
      </ul>
      <p class="muted small">Cells of the section that is shown, the nearest first.</p>
    </Dialog>
  );
}
