/** A value that views watch. */
import { useEffect, useState } from "preact/hooks";

export class Store<T> {
  private readonly watchers = new Set<(value: T) => void>();

  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  set(next: T): void {
    this.current = next;
    for (const watcher of [...this.watchers]) watcher(next);
  }

  update(change: (value: T) => T): void {
    this.set(change(this.current));
  }

  watch(watcher: (value: T) => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [value, setValue] = useState<{ of: T }>({ of: store.value });
  useEffect(() => {
    setValue({ of: store.value });
    return store.watch((next) => setValue({ of: next }));
  }, [store]);
  return value.of;
}
