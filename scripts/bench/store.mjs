// The durable store: commits in groups beside raw appends with fdatasync on the same disk, and opening with 100,000 records.
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs"
import { open } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Layer } from "effect"
import * as StoreLmdb from "../../dist/layers/StoreLmdb.js"
import { BrokerConfig, defaults } from "../../dist/services/BrokerConfig.js"
import { EventLog } from "../../dist/services/EventLog.js"
import { Paths } from "../../dist/services/Paths.js"
import { Store, Transaction, table } from "../../dist/services/Store.js"

const base = process.env.BENCH_DIRECTORY ?? mkdtempSync(join(tmpdir(), "runtime-broker-bench-"))
mkdirSync(base, { recursive: true })
const storeDirectory = join(base, "identity", "store")
const layer = StoreLmdb.layer.pipe(
  Layer.fresh,
  Layer.provide([
    Layer.succeed(BrokerConfig, defaults),
    Layer.succeed(EventLog, { unsafeLog: () => undefined, unsafeDropped: () => 0 }),
    Layer.succeed(Paths, { storeDirectory })
  ])
)
const withStore = (run) => Effect.runPromise(Effect.flatMap(Store, run).pipe(Effect.provide(layer)))

const mail = table("bench", 1)
const value = { from: "local:a", to: "local:b", body: "x".repeat(440) }
const keyOf = (n) => `endpoint/${String(n).padStart(11, "0")}`
const percentile = (sorted, share) => sorted[Math.floor(sorted.length * share)].toFixed(2)

/** `count` records, one commit each, `waiting` of them under way at a time. */
const commits = (count, waiting) =>
  withStore((store) =>
    Effect.async((resume) => {
      const took = []
      let begun = 0
      const started = performance.now()
      const next = () => {
        if (took.length === count) return resume(Effect.succeed({ ms: performance.now() - started, took }))
        if (begun === count) return
        const at = performance.now()
        const transaction = new Transaction()
        transaction.put(mail, keyOf(begun++), value)
        transaction.onDurable(() => {
          took.push(performance.now() - at)
          next()
        })
        store.unsafeCommit(transaction)
      }
      for (let n = 0; n < waiting; n++) next()
    })
  )

/** The same bytes appended to a file, `group` records to a flush. */
const raw = async (count, group) => {
  const file = await open(join(base, "raw"), "w")
  const record = Buffer.from(`${JSON.stringify(value)}\n`)
  const took = []
  const started = performance.now()
  for (let n = 0; n < count; n += group) {
    const at = performance.now()
    await file.write(Buffer.concat(Array.from({ length: group }, () => record)))
    await file.datasync()
    for (let each = 0; each < group; each++) took.push(performance.now() - at)
  }
  const ms = performance.now() - started
  await file.close()
  return { ms, took }
}

const row = (name, count, { ms, took }) => {
  const sorted = took.sort((a, b) => a - b)
  const rate = Math.round((count / ms) * 1_000)
  console.log(
    `${name.padEnd(40)} ${String(rate).padStart(8)}/s  p50 ${percentile(sorted, 0.5)} ms  p99 ${percentile(sorted, 0.99)} ms`
  )
}

const count = 10_000
for (const waiting of [1, 32, 256]) {
  rmSync(join(base, "identity"), { recursive: true, force: true })
  row(`store, ${waiting} commits under way`, count, await commits(count, waiting))
  row(`raw append, fdatasync per ${waiting}`, count, await raw(count - (count % waiting), waiting))
}

rmSync(join(base, "identity"), { recursive: true, force: true })
const many = 100_000
const filled = await commits(many, 1_000)
row("store, filled 1,000 at a time", many, filled)
console.log(`file of ${many} records: ${(statSync(join(storeDirectory, "data.mdb")).size / 2 ** 20).toFixed(1)} MiB`)
for (const name of ["opened, everything checked", "again"]) {
  const started = performance.now()
  const [opened, read] = await withStore((store) =>
    Effect.sync(() => {
      const at = performance.now()
      const found = store.unsafeRange(mail, { from: "", until: "~" }).length
      return [at - started, performance.now() - at, found]
    })
  )
  console.log(`${name}: ${opened.toFixed(0)} ms; all read into memory: ${read.toFixed(0)} ms`)
}
rmSync(base, { recursive: true, force: true })
