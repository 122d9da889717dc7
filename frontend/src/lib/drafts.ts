/** Corrections that are not confirmed yet survive a reload as well. */
import * as saved from "./saved";
import type { Plan } from "./shares";

const place = (run: string, id: string) => `cnapse-review/${run}/draft/${id}`;

export function keepDraft(run: string, id: string, plan: Plan | null): void {
  if (plan) saved.write(place(run, id), JSON.stringify(plan));
  else saved.remove(place(run, id));
}

export function draftOf(run: string, id: string): Plan | null {
  const plan = saved.readJson<Plan>(place(run, id));
  return plan?.pre?.id !== undefined && Array.isArray(plan.rows) ? plan : null;
}
