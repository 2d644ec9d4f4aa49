/** A process around a store, for tests that end it or may lose it: `commit <base>`, `verify <base>` or `start`. */
import { writeSync } from "node:fs"
import { createInterface } from "node:readline"
import { Effect, Layer } from "effect"
import * as Tools from "../../src/layers/lmdb/tools.js"
import * as StoreLmdb from "../../src/layers/StoreLmdb.js"
import { ordered } from "../../src/services/model/StoreKey.js"
import { Store, Transaction, table } from "../../src/services/Store.js"
import { StoreReport } from "../../src/services/StoreReport.js"
import { configWith, KeptLog, pathsLayer, pathsUnder } from "./ground.js"

const [, , command, base, setting] = process.argv
const steps = table<{ readonly n: number; readonly text: string }>("steps", 1)
const latest = table<number>("latest", 1)
const all = { from: "", until: "~" }
const freeDiskBytes = Number(setting ?? 0)

const storeIn = (directory: string) =>
  StoreLmdb.layer.pipe(
    Layer.fresh,
    Layer.provide([configWith({ freeDiskBytes }), new KeptLog().layer, pathsLayer(directory)])
  )
const say = (line: string) => writeSync(1, `${line}\n`)

/** Writes step after step, several at a time, and says each that is durable. Old ones go, for pages to be used again. */
const commitForEver = (store: Store["Type"]) =>
  Effect.async<never>(() => {
    let n = store.unsafeGet(latest, "latest") ?? 0
    say(`from ${n}`)
    let health = "Healthy"
    setInterval(() => {
      const now = store.unsafeHealth()
      if (now._tag !== health) say(now._tag === "Failing" ? `failing ${now.reason}` : "healthy")
      health = now._tag
    }, 5)
    const next = () => {
      n++
      const step = n
      const transaction = new Transaction()
      transaction.put(steps, ordered(step), { n: step, text: "x".repeat((step * 37) % 3_000) })
      if (step > 400) transaction.delete(steps, ordered(step - 400))
      transaction.put(latest, "latest", step)
      transaction.onDurable(() => {
        say(String(step))
        setImmediate(next)
      })
      store.unsafeCommit(transaction)
    }
    for (let at = 0; at < 8; at++) next()
  })

/** All that a start serves and says. */
const startAt = (directory: string) =>
  Effect.gen(function* () {
    const store = yield* Store
    const { opened } = yield* StoreReport
    const served = ["mail", "inbox", "outbox"].map((name) => store.unsafeRange(table<unknown>(name, 1), all))
    // What is served can also be changed.
    const transaction = new Transaction()
    transaction.put(table<number>("after", 1), "start", 1)
    for (const [key] of served[0]!.slice(0, 50)) transaction.put(table<unknown>("after", 1), key, "y".repeat(500))
    yield* store.commit(transaction)
    return { served, opened }
  }).pipe(
    Effect.provide(storeIn(directory)),
    Effect.map((started) => ({ ...started, error: undefined })),
    Effect.catchAll((error) => Effect.succeed({ error: error.message }))
  )

if (command === "commit") {
  Effect.runFork(Effect.flatMap(Store, commitForEver).pipe(Effect.provide(storeIn(base!))))
} else if (command === "verify") {
  const verified = Effect.catchAll(Tools.verify(pathsUnder(base!).storeDirectory), ({ message }) =>
    Effect.succeed({ message })
  )
  say(
    JSON.stringify({ ...(await Effect.runPromise(verified)), started: (await Effect.runPromise(startAt(base!))).error })
  )
} else {
  for await (const line of createInterface({ input: process.stdin })) {
    // More than a pipe takes at once.
    process.stdout.write(`${JSON.stringify(await Effect.runPromise(startAt(line)))}\n`)
  }
}
