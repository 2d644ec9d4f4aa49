/** `examples/plain-client.mjs` at the built broker. */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { environmentOf, eventually, startBroker, temporaryDirectory } from "../../kit/broker.js"

const example = fileURLToPath(new URL("../../../examples/plain-client.mjs", import.meta.url))

it("the plain client depends on nothing but ws", () => {
  const imports = [...readFileSync(example, "utf8").matchAll(/from "([^"]+)"/g)].map(([, from]) => from!)
  assert.deepStrictEqual(
    imports.filter((from) => !from.startsWith("node:")),
    ["ws"]
  )
})

it.scopedLive(
  "the plain client registers, sends, acknowledges, and comes back with its endpoint when the broker was killed",
  () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const broker = yield* startBroker({ userData })
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, [example, "default", "loopback", "plain"], {
            env: environmentOf(userData, {}),
            stdio: ["pipe", "pipe", "inherit"]
          })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const printed: Array<any> = []
      createInterface({ input: child.stdout }).on("line", (line) => printed.push(JSON.parse(line)))
      const line = (condition: (line: any) => boolean) =>
        Effect.map(
          eventually(
            Effect.sync(() => printed.findLast(condition)),
            (found) => found !== undefined,
            15_000
          ),
          (found) => found!
        )
      const { endpoint_id } = yield* line(({ connected }) => connected !== undefined)
      child.stdin.write(`local:plain/${endpoint_id} hello to myself\n`)
      const got = yield* line(({ event }) => event === "message_received")
      assert.strictEqual(got.content, "hello to myself")
      assert.deepInclude((yield* line(({ sent }) => sent !== undefined)).sent, { messageId: got.sourceMessageId })
      yield* eventually(broker.status, ({ endpoints }) => endpoints[0]?.undelivered === 0)

      yield* broker.end("SIGKILL")
      yield* line(({ lost }) => lost === true)
      child.stdin.write(`local:plain/${endpoint_id} across the gap\n`)
      yield* startBroker({ userData })
      assert.strictEqual((yield* line(({ content }) => content === "across the gap")).event, "message_received")
      assert.strictEqual((yield* line(({ connected }) => connected !== undefined)).endpoint_id, endpoint_id)
    }),
  40_000
)
