/**
 * A process around a store, for tests that end it or may lose it: `commit <base>`, `large <base>`, `compact <base>`, `verify <base>`,
 * `start`, `steps`.
 */
import { writeSync } from "node:fs"
import { createInterface } from "node:readline"
import { Effect, Fiber, Layer } from "effect"
import { freeDisk } from "../../src/layers/lmdb/room.js"
import * as Tools from "../../src/layers/lmdb/tools.js"
import * as StoreLmdb from "../../src/layers/StoreLmdb.js"
import { ordered } from "../../src/services/model/StoreKey.js"
import { Store, Transaction, table } from "../../src/services/Store.js"
import { StoreReport } from "../../src/services/StoreReport.js"
import { configWith, KeptLog, pathsLayer, pathsUnder } from "./ground.js"

const [, , command, base, setting] = process.argv
interface Step {
  readonly n: number
  readonly text: string
}
const steps = table<Step>("steps", 1)
const latest = table<number>("latest", 1)
const all = { from: "", until: "~" }
const freeDiskBytes = Number(setting ?? 0)
/** So many steps are kept. */
const kept = 400
const textOf = (n: number) => "x".repeat((n * 37) % 3_000)

const storeIn = (directory: string) =>
  StoreLmdb.layer.pipe(
    Layer.fresh,
    Layer.provide([configWith({ freeDiskBytes }), new KeptLog().layer, pathsLayer(directory)])
  )
const say = (line: string) => writeSync(1, `${line}\n`)

/** Writes step after step, several at a time, and says each that is durable. Old ones go, for pages to be used again. */
const commitMany = (store: Store["Type"], most = Number.POSITIVE_INFINITY) =>
  Effect.async<void>((resume) => {
    let n = store.unsafeGet(latest, "latest") ?? 0
    say(`from ${n}`)
    let health = "Healthy"
    setInterval(() => {
      const now = store.unsafeHealth()
      if (now._tag !== health) say(now._tag === "Failing" ? `failing ${now.reason}` : "healthy")
      health = now._tag
    }, 5)
    const last = n + most
    const next = () => {
      if (n === last) return resume(Effect.void)
      n++
      const step = n
      const transaction = new Transaction()
      transaction.put(steps, ordered(step), { n: step, text: textOf(step) })
      if (step > kept) transaction.delete(steps, ordered(step - kept))
      transaction.put(latest, "latest", step)
      transaction.onDurable(() => {
        say(String(step))
        setImmediate(next)
      })
      store.unsafeCommit(transaction)
    }
    for (let at = 0; at < 8; at++) next()
  })

/** One transaction of so many MiB; says how the store is, how much is free then, and when it is durable. */
const commitLarge = (store: Store["Type"], size: number) =>
  Effect.gen(function* () {
    const transaction = new Transaction()
    for (let n = 1; n <= size; n++) transaction.put(steps, ordered(n), { n, text: "x".repeat(2 ** 20) })
    const waiting = yield* Effect.fork(store.commit(transaction))
    const health = yield* Effect.sleep("5 millis").pipe(
      Effect.zipRight(Effect.sync(store.unsafeHealth)),
      Effect.repeat({ until: ({ _tag }) => _tag === "Failing" })
    )
    say(JSON.stringify({ ...health, free: yield* Effect.promise(() => freeDisk(base!)) }))
    yield* Fiber.join(waiting)
    say("durable")
  })

/** Opened, written to and made smaller, over and over. */
const compactForEver = Effect.gen(function* () {
  yield* Effect.flatMap(Store, (store) => Effect.zipRight(commitMany(store, 30), store.flush)).pipe(
    Effect.provide(storeIn(base!))
  )
  yield* Tools.compact(pathsUnder(base!).storeDirectory)
}).pipe(Effect.forever)

/** What a start finds of the steps, and that it can go on with them. */
const stepsAt = (directory: string) =>
  Effect.gen(function* () {
    const store = yield* Store
    const found = store.unsafeRange(steps, all)
    const last = store.unsafeGet(latest, "latest") ?? 0
    const firstKept = Math.max(1, last - kept + 1)
    const isWhole = ({ n, text }: Step, at: number) => n === firstKept + at && text === textOf(n)
    const transaction = new Transaction()
    transaction.put(steps, ordered(last + 1), { n: last + 1, text: textOf(last + 1) })
    yield* store.commit(transaction)
    return {
      latest: last,
      isWhole: found.length === last - firstKept + 1 && found.every(([, step], at) => isWhole(step, at)),
      opened: (yield* StoreReport).opened
    }
  }).pipe(Effect.provide(storeIn(directory)))

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
  }).pipe(Effect.provide(storeIn(directory)))

const orWhyNot = <A extends object, E extends { readonly message: string }>(started: Effect.Effect<A, E>) =>
  started.pipe(
    Effect.map((result) => ({ ...result, error: undefined })),
    Effect.catchAll((error) => Effect.succeed({ error: error.message }))
  )

if (command === "commit") {
  Effect.runFork(Effect.flatMap(Store, (store) => commitMany(store)).pipe(Effect.provide(storeIn(base!))))
} else if (command === "large") {
  Effect.runFork(Effect.flatMap(Store, (store) => commitLarge(store, 24)).pipe(Effect.provide(storeIn(base!))))
} else if (command === "compact") {
  Effect.runFork(compactForEver)
} else if (command === "verify") {
  const verified = Effect.catchAll(Tools.verify(pathsUnder(base!).storeDirectory), ({ message }) =>
    Effect.succeed({ message })
  )
  say(
    JSON.stringify({
      ...(await Effect.runPromise(verified)),
      started: (await Effect.runPromise(orWhyNot(startAt(base!)))).error
    })
  )
} else {
  for await (const line of createInterface({ input: process.stdin })) {
    // More than a pipe takes at once.
    const started: Effect.Effect<object> = command === "steps" ? orWhyNot(stepsAt(line)) : orWhyNot(startAt(line))
    process.stdout.write(`${JSON.stringify(await Effect.runPromise(started))}\n`)
  }
}
