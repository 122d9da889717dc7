/** Where one is, in the address after `#`: every place can be linked to and reloaded. */
import { Store } from "./store";

export type ViewName = "candidates" | "partners" | "objects" | "progress";
const VIEWS: readonly ViewName[] = ["candidates", "partners", "objects", "progress"];

export interface Route {
  view: ViewName;
  id: string | null;
  query: Readonly<Record<string, string>>;
}

export function parseRoute(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view, id] = path.split("/");
  const query: Record<string, string> = {};
  for (const [name, value] of new URLSearchParams(search)) query[name] = value;
  return {
    view: VIEWS.find((name) => name === view) ?? "candidates",
    id: id !== undefined && /^\d{1,20}$/.test(id) ? id : null,
    query,
  };
}

export function formatRoute(route: Route): string {
  const pairs = Object.entries(route.query).filter(([, value]) => value !== "");
  const search = new URLSearchParams(pairs).toString();
  return `#/${route.view}${route.id ? `/${route.id}` : ""}${search ? `?${search}` : ""}`;
}

export const route = new Store<Route>(
  parseRoute(typeof location === "undefined" ? "" : location.hash),
);

/** Goes to another place; `replace` leaves no step for the browser's Back. */
export function go(change: Partial<Route>, replace = false): void {
  const next: Route = { ...route.value, ...change };
  const hash = formatRoute(next);
  if (hash === location.hash) return;
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  route.set(next);
}

const lastOf = new Map<ViewName, Route>();

/** Goes to a view, to where one was in it last. */
export function visit(view: ViewName): void {
  lastOf.set(route.value.view, route.value);
  go(lastOf.get(view) ?? { view, id: null, query: {} });
}

export function followAddress(): void {
  const read = () => route.set(parseRoute(location.hash));
  addEventListener("hashchange", read);
  addEventListener("popstate", read);
}
