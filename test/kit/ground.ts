/** What single layers stand on in their tests: settings, a log that is kept, a directory of their own. Quick to import. */
import { chmodSync, mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { Effect, Either, Layer, type Scope } from "effect"
import { BrokerConfig, defaults, type Settings } from "../../src/services/BrokerConfig.js"
import { EventLog, type LogFields, type LogLevel } from "../../src/services/EventLog.js"
import { Paths } from "../../src/services/Paths.js"

export const configWith = (settings: Partial<Settings> = {}): Layer.Layer<BrokerConfig> =>
  Layer.succeed(BrokerConfig, { ...defaults, ...settings })

/** Keeps what is logged. */
export class KeptLog {
  readonly lines: Array<{ readonly level: LogLevel; readonly event: string; readonly fields: LogFields }> = []
  readonly service: EventLog["Type"] = {
    unsafeLog: (level, event, fields = {}) => {
      this.lines.push({ level, event, fields })
    },
    unsafeDropped: () => 0
  }
  readonly layer = Layer.succeed(EventLog, this.service)

  get events(): ReadonlyArray<string> {
    return this.lines.map(({ event }) => event)
  }
}

/** A directory of the test's own, mode 0700, gone afterwards. */
export const ownDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(path.join(tmpdir(), "runtime-broker-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true, maxRetries: 10 }))
)

/** The broker's files, all under `base`, which need not exist. */
export const pathsUnder = (base: string): Paths["Type"] => {
  const directory = path.join(base, "identity")
  const logDirectory = path.join(base, "log")
  return {
    directory,
    discoveryFile: path.join(directory, "discovery.json"),
    operatorFile: path.join(directory, "operator.json"),
    lockFile: path.join(directory, "broker.lock"),
    storeDirectory: path.join(directory, "store"),
    logDirectory,
    logFile: path.join(logDirectory, `broker-${process.pid}.log`)
  }
}
export const pathsLayer = (base: string): Layer.Layer<Paths> => Layer.succeed(Paths, pathsUnder(base))

/** Permission bits, as written in chmod. */
export const modeOf = (file: string): string => (statSync(file).mode & 0o777).toString(8)

/** `chmod` that the process's umask does not touch. */
export const setMode = (file: string, mode: number): void => chmodSync(file, mode)

/** Lets promises and callbacks that are ready run. */
export const turns: Effect.Effect<void> = Effect.promise(async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
})

/** Why it did not work; that it worked is the failure here. */
export const complaintOf = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.either(effect), (result) =>
    Either.isLeft(result)
      ? Effect.succeed(result.left.message)
      : Effect.dieMessage("it was expected to fail, and did not")
  )
