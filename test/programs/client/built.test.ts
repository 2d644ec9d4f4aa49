/** The SDK as plugins use it: built, in processes of their own, at the built broker. */
import { type ChildProcess, execFile, fork } from "node:child_process"
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { BrokerClient } from "../../../src/programs/client.js"
import { type BrokerOptions, dist, eventually, startBroker, temporaryDirectory } from "../../kit/broker.js"

const program = fileURLToPath(new URL("../../kit/sdkPlugin.mjs", import.meta.url))
const closingProgram = fileURLToPath(new URL("../../kit/closingPlugin.mjs", import.meta.url))
const execute = promisify(execFile)
const sdk = pathToFileURL(dist("programs/client.js")).href

interface SdkPlugin {
  readonly process: ChildProcess
  readonly address: string
  readonly got: ReadonlyArray<number>
  /** The ids of the messages it got. */
  readonly ids: ReadonlyArray<string>
  readonly answered: ReadonlyMap<number, string>
  readonly disconnections: () => number
  readonly send: (to: string, from: number, count: number) => Effect.Effect<void>
}

const startSdkPlugin = (userDataDir: string, name: string): Effect.Effect<SdkPlugin, never, Scope.Scope> =>
  Effect.gen(function* () {
    const place = { accountId: "default", runtimeToken: "loopback", userDataDir, launch: false, timeoutMs: 2_000 }
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        fork(program, [sdk, JSON.stringify(place), name], { stdio: ["ignore", "inherit", "inherit", "ipc"] })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const got: Array<number> = []
    const ids: Array<string> = []
    const answered = new Map<number, string>()
    let id: string | undefined
    let disconnections = 0
    child.on("message", (event: any) => {
      if (event.registered !== undefined) id = event.registered
      if (event.got !== undefined) {
        got.push(Number(event.got))
        ids.push(event.id)
      }
      if (event.sent !== undefined) answered.set(event.sent, event.status ?? event.code)
      if (event.disconnected) disconnections++
    })
    yield* eventually(
      Effect.sync(() => id),
      (id) => id !== undefined,
      15_000
    )
    return {
      process: child,
      address: `local:${name}/${id}`,
      got,
      ids,
      answered,
      disconnections: () => disconnections,
      send: (to, from, count) => Effect.sync(() => child.send({ to, from, count }))
    }
  })

const until = (condition: () => boolean) => eventually(Effect.sync(condition), (holds) => holds, 60_000)

describe("plugins on the SDK", () => {
  it.scopedLive("read the undispatched inbox page by page", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const client = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const client = BrokerClient.at({ ipcUrl: broker.url, bearerToken: broker.token })
          await client.connect()
          return client
        }),
        (client) => Effect.promise(() => client.close())
      )
      yield* Effect.promise(async () => {
        const { endpoint_id } = await client.registerEndpoint({ kind: "test" })
        for (const content of ["a", "b", "c"]) await client.send(endpoint_id, "local:default", content)
        const first = await client.listUndispatched({ endpointId: endpoint_id, limit: 2 })
        await client.dispatch(first.items[1]!.id, endpoint_id)
        const second = await client.listUndispatched({ limit: 2, after: first.next! })
        const contents = [first, second].map(({ items }) => items.map(({ content }) => content))
        assert.deepStrictEqual([contents, second.next], [[["a", "b"], ["c"]], undefined])
      })
    })
  )

  it.scopedLive(
    "D2, D3, D5: go on by themselves when the broker is killed under traffic and started again: nothing lost, doubled or out of order",
    () =>
      Effect.gen(function* () {
        const userData = yield* temporaryDirectory
        const options: BrokerOptions = { userData }
        let broker = yield* startBroker(options)
        const alice = yield* startSdkPlugin(userData, "alice")
        const bob = yield* startSdkPlugin(userData, "bob")
        const count = 150
        yield* alice.send(bob.address, 0, count)
        yield* bob.send(alice.address, 0, count)
        const kills = 3
        for (let kill = 1; kill <= kills; kill++) {
          yield* until(() => bob.got.length >= kill * 30 && alice.got.length >= kill * 30)
          yield* broker.end("SIGKILL")
          broker = yield* startBroker(options)
        }
        yield* until(() => alice.answered.size === count && bob.answered.size === count)
        for (const [from, to] of [
          [alice, bob],
          [bob, alice]
        ] as const) {
          // One whose outcome is unknown may have arrived.
          const certain = [...from.answered].filter(([, answer]) => answer !== "connector_send_outcome_unknown")
          assert.isAtLeast(certain.length, count - kills)
          for (const [, answer] of certain) assert.include(["delivered", "stored"], answer)
          yield* until(() => certain.every(([n]) => to.got.includes(n)))
          assert.deepStrictEqual(
            to.got,
            to.got.toSorted((a, b) => a - b)
          )
          assert.strictEqual(new Set(to.ids).size, to.ids.length)
          assert.strictEqual(new Set(to.got).size, to.got.length)
          assert.isAtLeast(from.disconnections(), kills)
        }
        // Resumed, not registered anew.
        const { endpoints } = yield* broker.status
        assert.deepStrictEqual(
          endpoints.map(({ endpoint_id, state }) => [endpoint_id, state]).toSorted(),
          [alice, bob].map(({ address }) => [address.split("/")[1], "active"]).toSorted()
        )
      }),
    120_000
  )

  it.scopedLive("end by themselves once their client is closed, connected or not", () =>
    Effect.gen(function* () {
      const { token, url } = yield* startBroker()
      const run = (ipcUrl: string) =>
        Effect.promise(() => execute(process.execPath, [closingProgram, sdk, ipcUrl, token], { timeout: 15_000 }))
      assert.deepStrictEqual(yield* run(url), { stdout: "connected\n", stderr: "" })
      // Nobody listens there.
      assert.deepStrictEqual(yield* run("http://127.0.0.1:9"), { stdout: "never_connected\n", stderr: "" })
    })
  )

  it("load nothing of Effect: of other packages only ws, and that only to connect", () => {
    const files = new Set<string>()
    const packages = new Set<string>()
    const walk = (file: string) => {
      if (files.has(file)) return
      files.add(file)
      const text = readFileSync(file, "utf8")
      for (const [, from] of text.matchAll(/^(?:import|export) (?:[^"\n]* from )?"([^"]+)"/gm)) {
        if (from!.startsWith(".")) walk(join(dirname(file), from!))
        else if (!from!.startsWith("node:")) packages.add(from!)
      }
      for (const [, from] of text.matchAll(/\bimport\("([^"]+)"\)/g)) {
        if (from!.startsWith(".")) walk(join(dirname(file), from!))
        else packages.add(`${from} when asked`)
      }
    }
    walk(dist("programs/client.js"))
    assert.isAbove(files.size, 10)
    assert.deepStrictEqual([...packages], ["ws when asked"])
  })
})
