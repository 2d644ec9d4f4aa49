/** A plugin that is a process of its own, to be stopped and killed as a whole, and what a broker weighs meanwhile. */
import { type ChildProcess, execFileSync, fork } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"
import { eventually, type RunningBroker } from "./broker.js"

export interface ChildPlugin {
  readonly process: ChildProcess
  readonly id: string
  /** Reaches its endpoint. */
  readonly address: string
  /** The contents it got, each once, in the order in which they came first. */
  readonly contents: () => ReadonlyArray<string>
  /** How often it registered. */
  readonly registrations: () => number
}

const program = fileURLToPath(new URL("childPlugin.mjs", import.meta.url))

/** Starts it and waits until it is registered; it is killed when the test ends. */
export const startChildPlugin = (
  broker: RunningBroker,
  agent: string
): Effect.Effect<ChildPlugin, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => fork(program, [broker.url, broker.token, agent], { stdio: "ignore" })),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const contents = new Set<string>()
    const ids: Array<string> = []
    child.on("message", ({ content, registered }: { content?: string; registered?: string }) => {
      if (content !== undefined) contents.add(content)
      if (registered !== undefined) ids.push(registered)
    })
    yield* eventually(
      Effect.sync(() => ids.length),
      (count) => count > 0,
      15_000
    )
    return {
      process: child,
      id: ids[0]!,
      address: `local:${agent}/${ids[0]}`,
      contents: () => [...contents],
      registrations: () => ids.length
    }
  })

/** What the process holds in memory, in bytes. */
export const residentBytes = (pid: number): number =>
  process.platform === "linux"
    ? 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1])
    : 1024 * Number(execFileSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" }))
