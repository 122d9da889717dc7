/** How this person likes to look at things; kept in the browser. */
import * as saved from "./saved";
import { Store } from "./store";

export interface Settings {
  /** nm across a tile or picture; `null`: from the voxel size. */
  span: number | null;
  rows: number;
  outline: boolean;
  cells: boolean;
  names: boolean;
  viewer: boolean;
}

const PLACE = "cnapse-review/settings";
const USUAL: Settings = {
  span: null,
  rows: 3,
  outline: true,
  cells: true,
  names: true,
  viewer: false,
};

export const settings = new Store<Settings>({ ...USUAL, ...saved.readJson<Partial<Settings>>(PLACE) });

export function change(part: Partial<Settings>): void {
  settings.update((old) => ({ ...old, ...part }));
  saved.write(PLACE, JSON.stringify(settings.value));
}
