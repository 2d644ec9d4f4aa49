import { existsSync, readdirSync } from "node:fs"
import * as path from "node:path"
import { Command } from "@effect/cli"
import { NodeContext } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Console, Deferred, Effect, Fiber } from "effect"
import { devCloudCommand } from "../../src/programs/cli/devCloud.js"
import { type DevCloudReady, describe as describeReady, devCloud } from "../../src/programs/devCloud.js"
import { ownDirectory } from "../kit/ground.js"

/** The program until it is ready; interrupting the fiber ends it. */
const started = (directory: string | undefined) =>
  Effect.gen(function* () {
    const ready = yield* Deferred.make<DevCloudReady>()
    const accounts = ["alice", "bob"]
    const onReady = (value: DevCloudReady) => Effect.asVoid(Deferred.succeed(ready, value))
    const fiber = yield* Effect.forkScoped(devCloud({ port: 0, accounts, directory, onReady }))
    return { fiber, ready: yield* Deferred.await(ready) }
  })

/** Runs the command line; answers the first line it prints. */
const printed = (args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const line = yield* Deferred.make<string>()
    const console = yield* Console.consoleWith(Effect.succeed)
    const log = (text: string) => Effect.asVoid(Deferred.succeed(line, text))
    const run = Command.run(devCloudCommand, { name: "dev-cloud", version: "0" })
    yield* run(["node", "dev-cloud", ...args]).pipe(
      Effect.withConsole({ ...console, log }),
      Effect.provide(NodeContext.layer),
      Effect.catchAll((error) => Deferred.succeed(line, String("message" in error ? error.message : error))),
      Effect.forkScoped
    )
    return yield* Deferred.await(line)
  })

describe("runtime-broker dev-cloud", () => {
  it.scopedLive("runs a cloud, and leaves nothing of a temporary directory", () =>
    Effect.gen(function* () {
      const { fiber, ready } = yield* started(undefined)
      const [alice, bob] = ready.accounts
      assert.deepStrictEqual([alice!.address, bob!.address], ["mstp://dev/alice", "mstp://dev/bob"])
      assert.deepStrictEqual(alice!.environment, {
        MASONS_BROKER_CREDENTIALS_FILE: alice!.credentialsFile,
        MASONS_BROKER_ACCOUNT_ID: "alice"
      })
      const overview = yield* Effect.promise(() => fetch(`${ready.url}/dev`))
      assert.strictEqual(overview.status, 200)
      assert.isTrue(existsSync(alice!.credentialsFile))
      yield* Fiber.interrupt(fiber)
      assert.isFalse(existsSync(path.dirname(alice!.credentialsFile)))
      assert.isTrue(
        yield* Effect.promise(() =>
          fetch(ready.url).then(
            () => false,
            () => true
          )
        )
      )
    })
  )

  it.scopedLive("keeps credentials in a directory it is given, and says how to use them", () =>
    Effect.gen(function* () {
      const directory = path.join(yield* ownDirectory, "a b")
      const { fiber, ready } = yield* started(directory)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(readdirSync(directory).sort(), ["alice.json", "bob.json"])
      const text = describeReady(ready).join("\n")
      const file = path.join(directory, "alice.json")
      assert.include(
        text,
        `MASONS_BROKER_CREDENTIALS_FILE='${file}' MASONS_BROKER_ACCOUNT_ID=alice npx runtime-broker start`
      )
      assert.include(text, `${ready.url}/dev/faults`)
      assert.notInclude(text, "rk_dev_")
    })
  )

  it.scopedLive("takes port, accounts and directory from its command line, and tells programs in JSON", () =>
    Effect.gen(function* () {
      const directory = yield* ownDirectory
      const line = yield* printed(["--account", "carol", "--account", "dave", "--directory", directory])
      const ready = JSON.parse(line)
      assert.strictEqual(ready.event, "dev_cloud_ready")
      assert.deepStrictEqual(
        ready.accounts.map(({ name }: { name: string }) => name),
        ["carol", "dave"]
      )
      const port = new URL(ready.url).port
      assert.match(yield* printed(["--port", port]), /cannot be used/)
    })
  )
})
