import { statSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as CredentialsFile from "../../../src/layers/CredentialsFile.js"
import { writeCredentials } from "../../../src/layers/devCloud/credentials.js"
import * as DevCloudServer from "../../../src/layers/devCloud/DevCloudServer.js"
import { DevCloud } from "../../../src/services/DevCloud.js"
import { ownDirectory } from "../../kit/ground.js"
import { call, dev, run, runtime, Subscriber, withCloud } from "./kit.js"

describe("the command surface", () => {
  it.live("lists what there is", () =>
    withCloud(async (cloud) => {
      const { body, status } = await dev(cloud, "GET", "")
      assert.strictEqual(status, 200)
      assert.deepStrictEqual(body.accounts, JSON.parse(JSON.stringify(cloud.accounts)))
      assert.include(body.commands, "POST /dev/faults")
      assert.include(body.fault_table.deliver, "reorder")
    })
  )

  it.live("does what the service does", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      const sent = await dev(cloud, "POST", "/messages", {
        account: "alice",
        content: "x",
        endpoint_id: "e",
        from: "f"
      })
      assert.strictEqual(sent.body.seq, 1)
      assert.deepInclude(await a.next(), { content: "x", from: "f", metadata: { target_endpoint_id: "e" } })
      assert.strictEqual((await dev(cloud, "POST", "/skip", { account: "alice", seq: 1 })).status, 200)
      assert.strictEqual((await a.next()).event, "DELIVERY_SKIP")
      assert.strictEqual((await dev(cloud, "POST", "/announce", { account: "alice" })).status, 200)
      assert.strictEqual((await a.next()).event, "DELIVERY_CURSOR")
      await dev(cloud, "POST", "/frame", { account: "alice", frame: { event: "X" } })
      assert.strictEqual((await a.next()).event, "X")

      const events = await Subscriber.open(cloud, "alice")
      const control = await dev(cloud, "POST", "/control", { account: "alice", event: { type: "t" } })
      assert.strictEqual((await events.count(1))[0]!.id, control.body.id)
      await dev(cloud, "POST", "/control/raw", { account: "alice", chunks: ["data: raw\n\n"] })
      assert.strictEqual((await events.count(2))[1]!.data, "raw")

      const fault = await dev(cloud, "POST", "/faults", { at: "whoami", does: "refuse", status: 500 })
      assert.strictEqual((await call(cloud, "alice", "GET", "/whoami")).status, 500)
      assert.deepInclude((await dev(cloud, "GET", "/faults")).body.faults[0], { at: "whoami", struck: 1 })
      assert.deepStrictEqual((await dev(cloud, "DELETE", `/faults/${fault.body.id}`)).body, { count: 1 })
      assert.deepStrictEqual((await dev(cloud, "DELETE", "/faults")).body, { count: 0 })

      const endpoint = { runtime_kind: "x", endpoint_nonce: "n", display_label: "x" }
      const { endpoint_id } = (await call(cloud, "alice", "POST", "/runtime-endpoints", endpoint)).body
      assert.strictEqual((await dev(cloud, "POST", "/retire", { endpoint_id })).status, 200)
      assert.strictEqual((await dev(cloud, "POST", "/forget", { endpoint_id })).status, 200)
      assert.deepInclude((await dev(cloud, "POST", "/modes", { account: "alice", second: "refuse" })).body, {
        form: "numbered",
        second: "refuse"
      })
      const { body: view } = await dev(cloud, "GET", "/accounts/alice")
      assert.deepInclude(view.frames, { in: { REGISTER: 1 } })
      assert.deepInclude(view.frames.out, { MESSAGE_RECEIVED: 1, DELIVERY_SKIP: 1 })
      assert.strictEqual(view.control_subscribers, 1)

      const { happened } = (await dev(cloud, "GET", "/happened?kind=platform&account=alice")).body
      assert.deepStrictEqual(
        happened.map(({ call, status }: { call: string; status: number }) => [call, status]),
        [
          ["control_events", 200],
          ["whoami", 500],
          ["register_endpoint", 201]
        ]
      )
      const since = (await dev(cloud, "GET", `/happened?since=${happened[1].n}&kind=platform`)).body.happened
      assert.deepStrictEqual(since, [happened[2]])
      assert.deepStrictEqual((await dev(cloud, "POST", "/replace", { account: "alice" })).body, { count: 1 })
      assert.strictEqual((await a.end()).reason, "Replaced by new Runtime")
      assert.deepStrictEqual((await dev(cloud, "POST", "/cut", {})).body, { count: 1 })
    })
  )

  it.live("refuses what is no command with a sentence, and goes on", () =>
    withCloud(async (cloud) => {
      const wrong: ReadonlyArray<readonly [string, string, unknown]> = [
        ["POST", "/messages", "{"],
        ["POST", "/messages", null],
        ["POST", "/messages", { account: "nobody", content: "x" }],
        ["POST", "/messages", { account: "alice", content: 1 }],
        ["POST", "/messages", { account: "alice", content: "x", contents: "y" }],
        ["POST", "/faults", { at: "deliver", does: "refuse" }],
        ["POST", "/faults", { at: "deliver", does: "lose", account: "nobody" }],
        ["POST", "/faults", { at: "deliver", does: "lose", times: 0 }],
        ["POST", "/cut", { code: 1006 }],
        ["POST", "/cut", { account: "nobody" }],
        ["POST", "/announce", { account: "alice" }],
        ["POST", "/retire", { endpoint_id: "none" }],
        ["GET", "/happened?kind=x", undefined],
        ["GET", "/accounts/nobody", undefined]
      ]
      for (const [method, route, body] of wrong) {
        const reply = await dev(cloud, method, route, body)
        assert.strictEqual(reply.status, 400, `${route} ${JSON.stringify(body)}`)
        assert.isNotEmpty(reply.body.message)
      }
      for (const route of ["/nothing", "/accounts/a/b", "/__proto__", "/%zz"]) {
        assert.strictEqual((await dev(cloud, "GET", route)).status, 404, route)
      }
      assert.strictEqual((await fetch(`${cloud.url}/`)).status, 404)
      assert.lengthOf(await run(cloud.faults), 0)
    })
  )
})

describe("a cloud of one's own", () => {
  it.live("is a layer; its port is free again when its scope has ended", () =>
    Effect.gen(function* () {
      const port = yield* Effect.gen(function* () {
        const cloud = yield* DevCloud
        const a = yield* Effect.promise(() => runtime(cloud, "carol"))
        yield* Effect.promise(() => Subscriber.open(cloud, "carol"))
        assert.strictEqual(a.socket.readyState, a.socket.OPEN)
        return Number(new URL(cloud.url).port)
      }).pipe(Effect.provide(DevCloudServer.layer({ accounts: ["carol"] })))
      const again = Effect.map(DevCloud, ({ url }) => url).pipe(Effect.provide(DevCloudServer.layer({ port })))
      assert.strictEqual(yield* again, `http://127.0.0.1:${port}`)
    })
  )

  it.live("does not start on a port in use, without accounts, or with names that are none", () =>
    withCloud(async (cloud) => {
      const start = (options: DevCloudServer.DevCloudOptions) =>
        run(Effect.flip(Effect.scoped(DevCloudServer.make(options)))).then(({ message }) => message)
      assert.match(await start({ port: Number(new URL(cloud.url).port) }), /cannot be used/)
      assert.match(await start({ accounts: [] }), /at least one/)
      assert.match(await start({ accounts: ["a/b"] }), /"a\/b"/)
    })
  )

  it.scopedLive("has credentials files for its accounts that a broker can read", () =>
    Effect.gen(function* () {
      const directory = path.join(yield* ownDirectory, "credentials")
      const cloud = yield* DevCloudServer.make()
      const files = yield* writeCredentials(cloud.accounts, directory)
      for (const { apiHost, connectorUrl, name, token } of cloud.accounts) {
        assert.strictEqual(statSync(files[name]!).mode & 0o777, 0o600)
        const identity = yield* CredentialsFile.read({ MASONS_BROKER_CREDENTIALS_FILE: files[name] }, name)
        assert.deepInclude(identity, { accountId: name, connectorUrl, apiOrigin: apiHost })
        assert.strictEqual(Redacted.value(identity.runtimeToken), token)
      }
    })
  )
})
