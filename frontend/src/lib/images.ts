/** Pictures that are loaded ahead of being shown, so that nothing flickers. */

const MOST = 400;
const loaded = new Map<string, Promise<HTMLImageElement>>();
const ready = new Map<string, HTMLImageElement>();

/** The picture at an address; the same address is asked for once. */
export function picture(url: string): Promise<HTMLImageElement> {
  const known = loaded.get(url);
  if (known) {
    loaded.delete(url);
    loaded.set(url, known);
    return known;
  }
  const made = new Promise<HTMLImageElement>((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      ready.set(url, image);
      resolve(image);
    };
    image.onerror = () => {
      loaded.delete(url);
      reject(new Error("this picture could not be loaded"));
    };
    image.src = url;
  });
  loaded.set(url, made);
  for (const old of loaded.keys()) {
    if (loaded.size <= MOST) break;
    loaded.delete(old);
    ready.delete(old);
  }
  return made;
}

/** The picture if it is here already. */
export function pictureNow(url: string): HTMLImageElement | null {
  return ready.get(url) ?? null;
}

export function prefetch(url: string): void {
  picture(url).catch(() => undefined);
}
