/** Small things kept in this browser; without storage they last as long as the page. */

const memory = new Map<string, string>();
let store: Storage | null = null;
try {
  store = globalThis.localStorage ?? null;
} catch {
  store = null;
}

/** Whether the last write reached the browser's storage. */
export let durable = store !== null;

export function write(key: string, value: string): void {
  try {
    if (!store) throw new Error("no storage");
    store.setItem(key, value);
    memory.delete(key);
    durable = true;
  } catch {
    memory.set(key, value);
    durable = false;
  }
}

export function read(key: string): string | null {
  try {
    const value = store?.getItem(key);
    if (value !== null && value !== undefined) return value;
  } catch {
    // Fall through to memory.
  }
  return memory.get(key) ?? null;
}

export function remove(key: string): void {
  memory.delete(key);
  try {
    store?.removeItem(key);
  } catch {
    // It is gone from memory, which is all that can be done.
  }
}

export function keys(prefix: string): string[] {
  const found = new Set<string>();
  for (const key of memory.keys()) if (key.startsWith(prefix)) found.add(key);
  try {
    for (let i = 0; store && i < store.length; i += 1) {
      const key = store.key(i);
      if (key?.startsWith(prefix)) found.add(key);
    }
  } catch {
    // Memory alone.
  }
  return [...found].sort();
}

export function readJson<T>(key: string): T | null {
  const text = read(key);
  if (text === null) return null;
  try {
    return JSON.parse(text) as T;
  } catch {
    return null;
  }
}
