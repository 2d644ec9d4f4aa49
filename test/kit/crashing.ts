/** The built broker killed again and again on one directory, at named points, while two plugins send and receive. */
import { rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { eventually, type RunningBroker, temporaryDirectory } from "./broker.js"
import { CrashRecord } from "./crashRecord.js"
import { type Session, startSession } from "./endToEnd.js"
import { randomFrom } from "./lmdbStore.js"
import { canPreload, compiled } from "./preload.js"
import { idleProcess } from "./startedProcess.js"

/** One life of the broker. */
export interface Life {
  readonly number: number
  readonly broker: RunningBroker
  readonly record: CrashRecord
  /** Uniform in [0, 1), by the seed. */
  readonly random: () => number
  /** Endpoint `a` is always there. */
  readonly a: Session
  /** Opens endpoint `b`, which is away until then; its mail waits. */
  readonly openB: (acknowledges?: boolean) => Effect.Effect<Session, never, Scope.Scope>
  /** The last known id of `b`, once it was there. */
  readonly idOfB: () => string | undefined
  readonly addressOfB: () => string | undefined
  /** No new message from now on; done when all there are have come, were acknowledged, and that was written. */
  readonly settle: Effect.Effect<void>
  /** The broker is gone when this is done. */
  readonly kill: Effect.Effect<void>
  /** Kills it in a commit of the store: before the flush, behind it, or behind the meta page that makes it durable. */
  readonly killInCommit: (place: "b" | "f" | "a", commits: number) => Effect.Effect<void>
}

/** Where a life ends. */
export interface Point {
  readonly name: string
  readonly run: (life: Life) => Effect.Effect<void, never, Scope.Scope>
}

export interface Ground {
  /** Starts the broker on this directory. */
  readonly start: (
    userData: string,
    environment: Record<string, string>
  ) => Effect.Effect<RunningBroker, never, Scope.Scope>
  /** What is done over and over until the broker is killed, each by itself. */
  readonly traffic: (life: Life) => ReadonlyArray<Effect.Effect<unknown>>
  readonly points: ReadonlyArray<Point>
  /** After the end of each life. */
  readonly afterLife?: Effect.Effect<void>
  /** Nothing is on its way to the broker any more. */
  readonly isQuiet: Effect.Effect<boolean>
  /** Further fields of registrations. */
  readonly given?: Record<string, unknown>
}

const untilClosed = ({ plugin }: Session) => eventually(Effect.sync(plugin.closed), (closed) => closed !== undefined)

/** Ends `kills` lives, then checks in one more what became of everything. Gives the record, and that last broker. */
export const crash = (ground: Ground, kills: number, seed: number) =>
  Effect.gen(function* () {
    const record = new CrashRecord()
    const random = randomFrom(seed)
    const userData = yield* temporaryDirectory
    const [processA, processB] = [yield* idleProcess, yield* idleProcess]
    const flag = join(userData, "kill")
    const environment = canPreload
      ? { LD_PRELOAD: yield* compiled("test/faults/killingDisk.c"), KILLING_DISK: flag }
      : ({} as Record<string, string>)
    let lastB: Session | undefined

    const begin = (number: number) =>
      Effect.gen(function* () {
        rmSync(flag, { force: true })
        const broker = yield* ground.start(userData, environment)
        const a = yield* startSession(broker, { process: processA }, { ...ground.given })
        const sessions: Array<readonly [name: string, session: Session]> = [["a", a]]
        let isPaused = false
        const goingOn = (step: Effect.Effect<unknown>) =>
          Effect.forever(Effect.suspend(() => (isPaused ? Effect.sleep(20) : step)))
        const life: Life = {
          number,
          broker,
          record,
          random,
          a,
          idOfB: () => lastB?.id,
          addressOfB: () => lastB?.address,
          openB: (acknowledges = true) =>
            Effect.map(startSession(broker, { process: processB, acknowledges }, { ...ground.given }), (session) => {
              lastB = session
              sessions.push(["b", session])
              return session
            }),
          settle: Effect.gen(function* () {
            isPaused = true
            yield* Effect.sleep(100)
            yield* untilQuiet(ground, broker)
            yield* Effect.sleep(400)
            record.settled(number)
          }),
          kill: Effect.asVoid(broker.end("SIGKILL")),
          killInCommit: (place, commits) =>
            Effect.zipRight(
              Effect.sync(() => writeFileSync(flag, `${place}${commits}`)),
              Effect.asVoid(broker.exited)
            )
        }
        return { life, sessions, goingOn }
      })

    const oneLife = (number: number, { name, run }: Point) =>
      Effect.gen(function* () {
        const { goingOn, life, sessions } = yield* begin(number)
        for (const step of ground.traffic(life)) {
          yield* goingOn(step).pipe(
            // The broker is gone.
            Effect.catchAllCause(() => Effect.void),
            Effect.forkScoped
          )
        }
        yield* run(life).pipe(
          Effect.timeoutFail({ duration: 60_000, onTimeout: () => `life ${number} did not end: ${name}` }),
          Effect.catchAll((problem) =>
            Effect.flatMap(life.broker.status, (status) =>
              Effect.dieMessage(`${problem}; the broker says ${JSON.stringify(status)}`)
            )
          )
        )
        yield* life.broker.end("SIGKILL")
        // What was on its way to a plugin is read to its end.
        for (const [endpoint, session] of sessions) {
          yield* untilClosed(session)
          record.arrive(endpoint, number, session.plugin.messages)
        }
        if (ground.afterLife !== undefined) yield* ground.afterLife
      }).pipe(Effect.scoped)

    for (let number = 0; number < kills; number++) {
      yield* oneLife(number, ground.points[number % ground.points.length]!)
    }

    const { life, sessions } = yield* begin(kills)
    yield* life.openB()
    const { books, held_back } = yield* untilQuiet(ground, life.broker)
    assert.deepStrictEqual([held_back, books.unaccounted], [[], 0])
    for (const [endpoint, { plugin }] of sessions) record.arrive(endpoint, kills, plugin.messages)
    const { body } = yield* life.broker.call("GET", "/v1/undispatched")
    record.check(body.items)
    return { record, broker: life.broker, inbox: body.items as ReadonlyArray<{ readonly id: string }> }
  })

/** Waits until the network has given everything and the plugins have it. */
export const untilQuiet = ({ isQuiet }: Ground, broker: RunningBroker) =>
  eventually(
    Effect.all({ quiet: isQuiet, status: broker.status }),
    ({ quiet, status }) => quiet && status.books.held === 0,
    20_000
  ).pipe(Effect.map(({ status }) => status))

const some = ({ random }: Life, most: number) => Math.floor(random() * most)

/** Points that there are on every network. */
export const points = {
  anywhere: {
    name: "at any moment",
    run: (life) => life.openB().pipe(Effect.zipRight(Effect.sleep(some(life, 150))), Effect.zipRight(life.kill))
  },
  receipt: {
    name: "after a push, before its receipt",
    run: (life) =>
      Effect.gen(function* () {
        const { plugin } = yield* life.openB(false)
        const count = 1 + some(life, 20)
        yield* eventually(
          Effect.sync(() => plugin.messages.length),
          (length) => length >= count
        )
        yield* life.kill
      })
  },
  drain: {
    name: "while mail is drained",
    run: (life) =>
      Effect.gen(function* () {
        // B is away: its mail piles up.
        yield* eventually(life.broker.status, ({ books }) => books.held >= 20)
        const { plugin } = yield* life.openB()
        const count = 1 + some(life, 10)
        yield* eventually(
          Effect.sync(() => plugin.messages.length),
          (length) => length >= count
        )
        yield* life.kill
      })
  },
  settled: {
    name: "when nothing is left to do",
    run: (life) =>
      life.openB().pipe(Effect.zipRight(Effect.sleep(50)), Effect.zipRight(life.settle), Effect.zipRight(life.kill))
  },
  dispatch: {
    name: "while messages are dispatched",
    run: (life) =>
      Effect.gen(function* () {
        const { broker, record } = life
        const { id: target } = yield* life.openB()
        const { body } = yield* eventually(broker.call("GET", "/v1/undispatched"), ({ body }) => body.items.length > 0)
        const dispatch = ({ content, id }: any) => {
          record.dispatch(content, "b", false)
          return Effect.map(
            broker.call("POST", "/v1/dispatch", { undispatched_id: id, target_endpoint_id: target }),
            ({ status }) => {
              if (status === 200) record.dispatch(content, "b", true)
            }
          )
        }
        // Not many are left for long: the inbox never fills up.
        yield* Effect.forEach(body.items.slice(0, -20), dispatch, { concurrency: 8 })
        yield* Effect.raceFirst(
          Effect.forEach(body.items.slice(-20), dispatch).pipe(
            Effect.catchAllCause(() => Effect.void),
            Effect.zipRight(Effect.never)
          ),
          Effect.sleep(1 + some(life, 20))
        )
        yield* life.kill
      })
  }
} satisfies Record<string, Point>

/** In the middle of a commit. None where no library can be loaded before the broker's own. */
export const commitPoints: ReadonlyArray<Point> = canPreload
  ? (
      [
        ["before a flush", "b"],
        ["after a flush, before the meta page", "f"],
        ["after a commit, before anybody knows", "a"]
      ] as const
    ).map(([name, place]) => ({
      name,
      run: (life) => Effect.zipRight(Effect.asVoid(life.openB()), life.killInCommit(place, 1 + some(life, 8)))
    }))
  : []
