/**
 * Kills the broker on the development cloud while messages flow in both directions, again and again, on one directory: D1–D5,
 * D9–D11. The cloud lives on, and keeps what was not acknowledged.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../kit/broker.js"
import { accountOf, type Cloud, startCloud, startCloudBroker } from "../kit/cloud.js"
import { commitPoints, crash, type Ground, type Life, type Point, points } from "../kit/crashing.js"
import { times } from "../kit/lmdbStore.js"

const kills = times("CRASH_KILLS", 10)
const seed = times("CRASH_SEED", Math.floor(Math.random() * 2 ** 31))

/** A message from outside. The gateway keeps it until it is acknowledged: it is promised from the start. */
const inject = (cloud: Cloud, { record }: Life, stream: string, to: string | undefined, id: string | undefined) =>
  Effect.suspend(() =>
    cloud.inject({
      account: "alice",
      content: record.give(stream, to, true),
      ...(id === undefined ? {} : { endpoint_id: id })
    })
  )

/** Whom a message was for, by the id it was sent under, and what the gateway has heard of. */
class Sent {
  readonly promised = new Set<string>()
  readonly heard: Array<string> = []
  private since = 0

  readonly collect = (cloud: Cloud) =>
    Effect.map(cloud.happened({ account: "alice", event: "SEND_MESSAGE", since: this.since }), (frames) => {
      for (const frame of frames) {
        this.since = frame.n
        if (frame.kind === "frame" && frame.direction === "in") this.heard.push(String(frame.fields.messageId))
      }
    })

  check() {
    assert.strictEqual(new Set(this.heard).size, this.heard.length, "a message was sent twice")
    const heard = new Set(this.heard)
    assert.deepStrictEqual(
      [...this.promised].filter((id) => !heard.has(id)),
      [],
      "promised, and never sent"
    )
  }
}

/** The latest thing that happened. */
const latest = (cloud: Cloud) => Effect.map(cloud.happened({ account: "alice" }), (all) => all.at(-1)?.n ?? 0)

/** Kills the broker when the platform hears such a call, before it is answered. */
const atCall = (cloud: Cloud, life: Life, count: number, calls: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    let n = yield* latest(cloud)
    for (let at = 0; at < count; at++) {
      const { n: found } = yield* cloud.awaitHappening(
        (it) => it.n > n && it.account === "alice" && it.kind === "platform" && calls.includes(it.call)
      )
      n = found
    }
    yield* life.kill
  })

const cloudPoints = (cloud: Cloud): ReadonlyArray<Point> => [
  {
    name: "while a report is posted",
    run: (life) =>
      Effect.gen(function* () {
        yield* life.openB()
        yield* atCall(cloud, life, 1 + Math.floor(life.random() * 3), ["undispatched_changed"])
      })
  },
  {
    name: "while it leaves",
    run: (life) =>
      Effect.gen(function* () {
        yield* life.openB()
        yield* Effect.sleep(30)
        const stop = life.broker.operator("POST", "/v1/operator/stop")
        const isEarly = life.random() < 0.5
        // It may be gone by itself before.
        yield* Effect.raceFirst(
          Effect.zipRight(
            stop,
            isEarly
              ? Effect.zipRight(Effect.sleep(life.random() * 30), life.kill)
              : atCall(cloud, life, 1, ["presence_changed", "unregister", "state"])
          ),
          Effect.asVoid(life.broker.exited)
        )
      })
  }
]

it.scopedLive(
  `D2: the gateway's messages and the plugins' own survive ${kills} kills, each at its place (CRASH_SEED=${seed})`,
  () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const sent = new Sent()
      const bob = accountOf(cloud, "bob").address
      const alice = accountOf(cloud, "alice").address
      const ground: Ground = {
        given: { agent_id: "alice" },
        start: (userData, environment) => startCloudBroker(cloud, "alice", {}, userData, environment),
        traffic: (life) => {
          const { a, record } = life
          const toB = (step: (id: string) => Effect.Effect<unknown, unknown>) =>
            Effect.suspend(() => {
              const id = life.idOfB()
              return id === undefined ? Effect.sleep(10) : Effect.orDie(step(id))
            })
          const injected = Effect.orDie(inject(cloud, life, "from outside to a", "a", a.id))
          let toNobody = 0
          const undirected = Effect.suspend(() =>
            // So few that the inbox never fills up.
            Effect.zipRight(
              Effect.sleep(toNobody++ < 15 ? 25 : 200),
              Effect.orDie(inject(cloud, life, "from outside to nobody", undefined, undefined))
            )
          )
          const out = Effect.map(a.send(bob, "to bob"), ({ body, status }) => {
            if (status === 200) sent.promised.add(body.messageId)
          })
          const round = toB((id) =>
            Effect.gen(function* () {
              const content = record.give("from a to b", "b", false)
              const { body, status } = yield* a.send(`${alice}/${id}`, content)
              if (status !== 200) return
              record.promise(content)
              sent.promised.add(body.messageId)
            })
          )
          return [
            Effect.zipLeft(injected, Effect.sleep(4)),
            Effect.zipLeft(
              toB((id) => inject(cloud, life, "from outside to b", "b", id)),
              Effect.sleep(4)
            ),
            undirected,
            Effect.zipLeft(out, Effect.sleep(5)),
            Effect.zipLeft(round, Effect.sleep(5))
          ]
        },
        afterLife: Effect.suspend(() => sent.collect(cloud)),
        isQuiet: Effect.map(Effect.orDie(cloud.view("alice")), ({ mail }) => mail.waiting === 0),
        points: [
          points.anywhere,
          points.receipt,
          points.drain,
          points.dispatch,
          ...cloudPoints(cloud),
          ...commitPoints,
          points.settled
        ]
      }
      const { inbox, record } = yield* crash(ground, kills, seed)
      yield* sent.collect(cloud)
      sent.check()
      // A12: the platform lists what waits, and nothing else.
      const ids = inbox.map(({ id }) => id).sort()
      yield* eventually(
        Effect.orDie(cloud.view("alice")),
        ({ undispatched }) =>
          JSON.stringify(undispatched.map(({ undispatched_id }) => undispatched_id).sort()) === JSON.stringify(ids)
      )
      const { figures } = record
      if (process.env.SOAK) console.log(`CRASH_SEED=${seed}`, { ...figures, sent: sent.heard.length })
      assert.isAbove(figures.arrived, kills * 10, "messages did flow")
      assert.isAbove(sent.promised.size, kills, "and out")
    }),
  kills * 5_000 + 60_000
)
