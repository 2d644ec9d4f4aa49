/** A spawner with real children: small programs that write down how they were started. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, realpathSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { Effect, Layer, type Scope } from "effect"
import * as ControlOutcomesStore from "../../src/layers/ControlOutcomesStore.js"
import * as OutboxStore from "../../src/layers/OutboxStore.js"
import * as SpawnerProcess from "../../src/layers/SpawnerProcess.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Spawner, type SpawnOrder } from "../../src/services/Spawner.js"
import { groundWith, type LogLine, settle } from "./core.js"
import { FakePlatform } from "./FakePlatform.js"
import { FakeStore } from "./FakeStore.js"
import { removed } from "./removed.js"
import { commit } from "./steps.js"

/** What a child wrote down. */
export interface Started {
  readonly pid: number
  readonly args: ReadonlyArray<string>
  readonly environment: Record<string, string>
  readonly directory: string
  readonly input: string
}

/** Real milliseconds pass, whatever clock the test runs on. */
export const really = (ms: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, ms)))

/** Waits, in real time, until there is something. */
export const until = <A>(look: () => A | undefined | false, what: string): Effect.Effect<A> =>
  Effect.gen(function* () {
    for (let waited = 0; waited < 10_000; waited += 10) {
      const found = look()
      if (found !== undefined && found !== false) return found
      yield* really(10)
    }
    return yield* Effect.dieMessage(`waited in vain for ${what}`)
  })

/** A directory of the test's own for them; they may still be writing when it goes. */
export const ownPrograms: Effect.Effect<Programs, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => new Programs(realpathSync(mkdtempSync(path.join(tmpdir(), "runtime-broker-"))))),
  ({ directory }) => removed(directory)
)

/** Programs in one directory. */
export class Programs {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  at(name: string): string {
    return path.join(this.directory, name)
  }

  /** A program of this name; runs `body` at its end. */
  write(name: string, body = "", mode = 0o755): string {
    const file = this.at(name)
    const out = JSON.stringify(this.directory)
    const text = `#!${process.execPath}
const fs = require("node:fs"), path = require("node:path")
const chunks = []
process.stdin.on("data", (chunk) => chunks.push(chunk)).on("end", () => {
  const started = { pid: process.pid, args: process.argv.slice(2), environment: process.env, directory: process.cwd(),
    input: Buffer.concat(chunks).toString() }
  const name = path.join(${out}, "started-" + Buffer.from(process.env.MASONS_SPAWN_TOKEN).toString("hex"))
  fs.writeFileSync(name + ".part", JSON.stringify(started))
  fs.renameSync(name + ".part", name + (fs.existsSync(name) ? "-again" : ""))
  ${body}
})
`
    writeFileSync(file, text)
    chmodSync(file, mode)
    return file
  }

  /** What the child of this token wrote down, if it did. */
  startedNow(token: string): Started | undefined {
    const file = this.at(`started-${Buffer.from(token).toString("hex")}`)
    return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined
  }

  wasStartedTwice(token: string): boolean {
    return existsSync(this.at(`started-${Buffer.from(token).toString("hex")}-again`))
  }

  started(token: string): Effect.Effect<Started> {
    return until(() => this.startedNow(token), `the start of ${token}`)
  }
}

/** What outlives the spawner, and what the test looks at. */
export class SpawnWorld {
  readonly platform = new FakePlatform()
  readonly store = new FakeStore()
  readonly log: Array<LogLine> = []

  life(settings: Partial<Settings> = {}, options: SpawnerProcess.SpawnerOptions = {}) {
    return SpawnerProcess.layerWith(options).pipe(
      Layer.provideMerge(ControlOutcomesStore.layer),
      Layer.provideMerge(OutboxStore.layer),
      Layer.provideMerge(Layer.mergeAll(this.store.layer, this.platform.layer)),
      Layer.provideMerge(groundWith({ settings, log: this.log }))
    )
  }

  /** Acknowledgements the platform accepted, as `key status detail`. */
  get acks(): ReadonlyArray<string> {
    return this.platform.posts.flatMap((report) =>
      report._tag === "ControlAck"
        ? [[report.ack.idempotency_key, report.ack.status, report.ack.detail].filter(Boolean).join(" ")]
        : []
    )
  }

  get remembered(): Record<string, string> {
    const records = this.store.recordsOf<{ key: string; outcome: { status: string } }>("control_outcomes")
    return Object.fromEntries(records.map(({ key, outcome }) => [key, outcome.status]))
  }
}

/** `started`, or the detail of the refusal. */
export const spawn = (order: Partial<SpawnOrder> = {}) =>
  Effect.flatMap(Spawner, (spawner) =>
    spawner.spawn({ token: "cmd-1", prompt: "do it", kind: "custom", ...order }).pipe(
      Effect.match({ onSuccess: () => "started", onFailure: ({ detail }) => detail }),
      Effect.tap(() => settle)
    )
  )

export const register = (token: string, endpointId = "ep_1") =>
  Effect.flatMap(Spawner, (spawner) =>
    Effect.tap(
      commit((transaction) => spawner.unsafeRegistered(transaction, token, endpointId)),
      () => settle
    )
  )
