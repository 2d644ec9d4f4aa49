import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer } from "effect"
import { CredentialsLoopback } from "runtime-broker/layers"
import { Daemon, Variants } from "runtime-broker/programs"
import { Connector } from "runtime-broker/services"
import { connectorContract, Outside } from "runtime-broker/testing"
import * as folderNetwork from "../../examples/folderNetwork.js"
import { eventually } from "../kit/broker.js"
import { ownDirectory } from "../kit/ground.js"

const message = (to: string, content: string): Connector.OutboundMessage => ({
  messageId: content,
  to,
  content,
  contentType: "text",
  metadata: {},
  agent: undefined,
  requireLive: false
})

/** Two on one network: the broker is alice, the test is bob. */
const network = Effect.map(ownDirectory, (root) =>
  Layer.effect(
    Outside,
    Effect.gen(function* () {
      const bob = yield* Effect.provide(Connector.Connector, folderNetwork.layer(root, "bob"))
      return {
        deliver: (...contents: ReadonlyArray<string>) =>
          Effect.orDie(
            Effect.forEach(contents, (content) => bob.send(message("folder:alice", content)), { discard: true })
          ),
        reachable: "folder:bob",
        unreachable: "folder:nobody",
        arrived: Effect.scoped(
          Effect.gen(function* () {
            const contents: Array<string> = []
            yield* bob.receive((batch) => {
              contents.push(...batch.map(({ content }) => content))
              bob.unsafeAccept(batch.map(({ token }) => token))
            })
            yield* Effect.sleep("100 millis")
            return contents
          })
        )
      }
    })
  ).pipe(Layer.provideMerge(folderNetwork.layer(root, "alice")), Layer.fresh)
)
connectorContract("the folder network", Layer.unwrapScoped(network), { reopened: network })

describe("a broker on the folder network", () => {
  it.scopedLive("takes what lies in its folder, and keeps what nobody claims", () =>
    Effect.gen(function* () {
      const [root, home] = [yield* ownDirectory, yield* ownDirectory]
      const ready = yield* Deferred.make<Daemon.Ready>()
      yield* Effect.forkScoped(
        Daemon.daemon({
          environment: { MASONS_BROKER_USER_DATA: home },
          flags: { accountId: "alice" },
          parts: (settings) => ({
            credentials: CredentialsLoopback.layer(settings.accountId),
            variants: {
              ...Variants.variantsFor({ ...settings, connector: "loopback" }),
              connector: folderNetwork.layer(root, settings.accountId)
            }
          }),
          onReady: (told) => Deferred.succeed(ready, told),
          onLeaving: () => Effect.void
        })
      )
      const { connector, discoveryFile, url } = yield* Deferred.await(ready)
      assert.strictEqual(connector, "folder")
      const bob = yield* Effect.provide(Connector.Connector, folderNetwork.layer(root, "bob"))
      yield* bob.send(message("folder:alice", "hello"))
      const { bearerToken } = JSON.parse(readFileSync(discoveryFile, "utf8"))
      const undispatched = Effect.promise(async () => {
        const response = await fetch(`${url}/v1/undispatched`, { headers: { authorization: `Bearer ${bearerToken}` } })
        const { items } = (await response.json()) as any
        return items as ReadonlyArray<{
          readonly content: string
          readonly sender_address: string
        }>
      })
      const [item] = yield* eventually(undispatched, (items) => items.length === 1)
      assert.deepInclude(item, { content: "hello", sender_address: "folder:bob" })
      yield* eventually(
        Effect.sync(() => readdirSync(join(root, "alice"))),
        (files) => files.length === 0
      )
    })
  )
})
