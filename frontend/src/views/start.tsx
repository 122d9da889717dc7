/** Who reviews: each decision carries this name. */
import { useState } from "preact/hooks";
import { api } from "../lib/api";
import * as saved from "../lib/saved";
import type { Session } from "../types";

const LAST_NAME = "cnapse-review/name";

export function Start({ session, onReady }: { session: Session; onReady: (next: Session) => void }) {
  const [name, setName] = useState(session.reviewer ?? saved.read(LAST_NAME) ?? "");
  const [problem, setProblem] = useState("");
  const begin = async (event: Event) => {
    event.preventDefault();
    try {
      await api.signIn(name.trim());
      saved.write(LAST_NAME, name.trim());
      onReady(await api.session());
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <main class="start">
      <form class="start-box" onSubmit={(event) => void begin(event)}>
        <span class="brand-mark large" aria-hidden="true" />
        <h1>cnapse review</h1>
        <p class="muted">{session.title}</p>
        <label for="reviewer">Your name</label>
        <input
          id="reviewer"
          name="reviewer"
          value={name}
          maxLength={64}
          autoComplete="off"
          autoFocus
          spellcheck={false}
          aria-describedby="reviewer-why"
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <p id="reviewer-why" class="muted small">
          It is written beside each of your decisions. Two people use two names: they are never given
          the same synapse.
        </p>
        {problem && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="primary" disabled={!name.trim()}>
          Start <kbd>Enter</kbd>
        </button>
      </form>
    </main>
  );
}
