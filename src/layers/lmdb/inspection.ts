/** Looks into an opened store, beside its work: part by part, so that nothing waits for it. */
import { existsSync, statSync } from "node:fs"
import { Effect, Option, type Scope, Stream } from "effect"
import type { Inspection, Verification } from "../../services/ipc/StoreGroup.js"
import { StoreNotReadable } from "../../services/model/Errors.js"
import type { StoreInspection } from "../../services/StoreInspection.js"
import { nextTurn } from "../internal/nextTurn.js"
import type { OpenedDriver } from "./driver.js"
import { dataFile, tableName } from "./engine.js"
import type { Node } from "./Node.js"
import * as Places from "./places.js"
import { exportLine } from "./record.js"
import { setAsideFile } from "./salvage.js"
import { formatKey } from "./scan.js"
import type { Snapshot } from "./snapshot.js"

/** So much is read in one turn. */
const part = { records: 500, bytes: 2 ** 18 }

export const makeInspection = (driver: OpenedDriver, directory: string): StoreInspection["Type"] => {
  const attempt = <A>(read: () => A): Effect.Effect<A, StoreNotReadable> =>
    Effect.try({
      try: read,
      catch: (error) =>
        new StoreNotReadable({ message: `The store ${directory} cannot be read: ${(error as Error).message}.` })
    })

  const snapshot: Effect.Effect<Snapshot, StoreNotReadable, Scope.Scope> = Effect.acquireRelease(
    attempt(driver.snapshot),
    (taken) => Effect.sync(() => taken.end("it was read to its end"))
  )

  /** Sees every record of this moment, sound or not. */
  const forEach = (visit: (node: Node) => void): Effect.Effect<void, StoreNotReadable> =>
    Effect.scoped(
      Effect.gen(function* () {
        const records = yield* snapshot
        while (true) {
          const nodes = yield* attempt(() => records.take(part.records, part.bytes))
          if (nodes === undefined) return
          for (const node of nodes) visit(node)
          yield* nextTurn
        }
      })
    )

  const inspect: Effect.Effect<Inspection, StoreNotReadable> = Effect.gen(function* () {
    const tables: Record<string, { records: number; bytes: number; versions: Record<string, number> }> = {}
    const damaged: Record<string, number> = {}
    let records = 0
    yield* forEach((node) => {
      const name = tableName(node.key)
      if (node.key === formatKey) return
      if (!node.isWhole) {
        damaged[name] = (damaged[name] ?? 0) + 1
        return
      }
      records++
      tables[name] ??= { records: 0, bytes: 0, versions: {} }
      const counted = tables[name]
      const version = node.version
      counted.records++
      counted.bytes += node.size
      counted.versions[version] = (counted.versions[version] ?? 0) + 1
    })
    return yield* attempt(() => {
      const fileBytes = statSync(dataFile(directory)).size
      const file = setAsideFile(directory)
      return {
        directory,
        file_bytes: fileBytes,
        free_bytes: Math.max(0, fileBytes - driver.usedBytes()),
        records,
        tables,
        damaged,
        damaged_copies: Places.damagedCopies(directory),
        ...(existsSync(file) ? { set_aside_file: file } : {})
      }
    })
  })

  const verify: Effect.Effect<Verification, StoreNotReadable> = Effect.gen(function* () {
    const damaged: Record<string, number> = {}
    let records = 0
    yield* forEach((node) => {
      const name = tableName(node.key)
      if (!node.isWhole) damaged[name] = (damaged[name] ?? 0) + 1
      else if (node.key !== formatKey) records++
    })
    const sound = Object.keys(damaged).length === 0
    return { directory, sound, checked: "records" as const, records, damaged, problems: [] }
  })

  const lines = Stream.unwrapScoped(
    Effect.gen(function* () {
      const records = yield* snapshot
      return Stream.unfoldEffect(undefined, () =>
        Effect.zipRight(
          nextTurn,
          attempt(() => {
            const nodes = records.take(part.records, part.bytes)
            if (nodes === undefined) return Option.none()
            const sound = nodes.filter((node) => node.key !== formatKey && node.isWhole)
            const text = sound.map(({ key, value }) => exportLine(key, value!)).join("")
            return Option.some([text, undefined] as const)
          })
        )
      )
    })
  )

  return { inspect, verify, lines: Effect.succeed(lines) }
}
