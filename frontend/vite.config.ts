import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { defineConfig, type Plugin } from "vite";

// Where `cnapse review` answers while one works on the page: `npm run dev` passes /api on to it.
const backend = "http://127.0.0.1:8765";
const root = import.meta.dirname;
const output = join(root, "../cnapse/review/web/static");

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Notes what the page was built from: tests/review/browser/test_built.py tells a stale one by it. */
function sources(): Plugin {
  return {
    name: "sources",
    closeBundle() {
      const made = [join(root, "index.html"), join(root, "package-lock.json")];
      const all = [...made, ...files(join(root, "src")), ...files(join(root, "public"))];
      const names = all.map((path) => relative(root, path).split(sep).join("/")).sort();
      const digest = createHash("sha256");
      for (const name of names) digest.update(`${name}\0`).update(readFileSync(join(root, name)));
      writeFileSync(join(output, "sources.sha256"), `${digest.digest("hex")}\n`);
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [sources()],
  build: {
    outDir: output,
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
  },
  server: { proxy: { "/api": { target: backend, changeOrigin: true } } },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
} as Parameters<typeof defineConfig>[0]);
