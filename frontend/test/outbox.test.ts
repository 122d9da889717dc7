import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../src/lib/api";
import { Outbox, type Sent, type Wire } from "../src/lib/outbox";
import type { Decision } from "../src/types";

const body = (uuid: string): Sent => ({
  uuid,
  loop: "candidates",
  action: "verdict",
  syn_id: "1",
  new: { verdict: "true" },
  seconds: 1,
});

/** A server that can be away, and remembers what it has taken. */
class Server implements Wire {
  taken: string[] = [];
  away = false;
  refuses: string | null = null;

  async decide(sent: object): Promise<Decision> {
    const { uuid } = sent as Sent;
    if (this.away) throw new ApiError(0, "the server does not answer");
    if (this.refuses === uuid) throw new ApiError(409, "no such synapse");
    this.taken.push(uuid);
    return { uuid } as Decision;
  }
}

let run = 0;
let server: Server;
let box: Outbox;

beforeEach(() => {
  vi.useFakeTimers();
  run += 1;
  server = new Server();
  box = new Outbox(server);
  box.open(`run${run}`, "Anna");
});

const settle = () => vi.advanceTimersByTimeAsync(20_000);

describe("outbox", () => {
  it("sends in order and then holds nothing", async () => {
    for (const uuid of ["a", "b", "c"]) box.add(body(uuid));
    await settle();
    expect(server.taken).toEqual(["a", "b", "c"]);
    expect(box.state.value.waiting).toBe(0);
  });

  it("keeps what a server that is away did not take, with the same uuid", async () => {
    server.away = true;
    box.add(body("a"));
    box.add(body("b"));
    await settle();
    expect(box.state.value.waiting).toBe(2);
    server.away = false;
    await settle();
    expect(server.taken).toEqual(["a", "b"]);
    expect(box.state.value.waiting).toBe(0);
  });

  it("goes on after a reload", async () => {
    server.away = true;
    box.add(body("a"));
    await settle();
    const later = new Outbox(server);
    server.away = false;
    later.open(`run${run}`, "Anna");
    await settle();
    expect(server.taken).toEqual(["a"]);
  });

  it("never sends one reviewer's decisions in another's name, nor to another run", async () => {
    server.away = true;
    box.add(body("a"));
    await settle();
    server.away = false;
    const ben = new Outbox(server);
    ben.open(`run${run}`, "Ben");
    const elsewhere = new Outbox(server);
    elsewhere.open(`run${run}-other`, "Anna");
    await ben.flush();
    await elsewhere.flush();
    expect(server.taken).toEqual([]);
    expect(ben.state.value.foreign).toEqual([{ reviewer: "Anna", count: 1 }]);
  });

  it("says what is impossible and goes on with the rest", async () => {
    server.refuses = "a";
    box.add(body("a"));
    box.add(body("b"));
    await settle();
    expect(server.taken).toEqual(["b"]);
    expect(box.state.value.refused.map((one) => one.why)).toEqual(["no such synapse"]);
    expect(box.state.value.waiting).toBe(0);
  });
});
