// A plugin on the SDK, in a process of its own, as an author would write it. Tells its parent what it gets, does what it is told.
const [sdk, place, name] = process.argv.slice(2)
const { BrokerClient } = await import(sdk)

const tell = (event) => process.send?.(event)
const client = await BrokerClient.discover(JSON.parse(place))
client.on("connectionstate", ({ phase }) => tell({ phase }))
client.on("disconnected", () => tell({ disconnected: true }))
await client.connect({ clientKind: "test", reconnectBackoffInitialMs: 100, reconnectBackoffMaxMs: 500 })
const { endpoint_id } = await client.registerEndpoint({ agent_id: name, kind: "test" })
client.onMessage(({ content, sourceMessageId }) => tell({ got: content, id: sourceMessageId }))

// One after the other: the next one when the one before is answered for.
process.on("message", async ({ count, from, to }) => {
  for (let n = from; n < from + count; n++) {
    const outcome = await client.send(endpoint_id, to, String(n)).then(
      ({ status }) => ({ status }),
      ({ code }) => ({ code })
    )
    tell({ sent: n, ...outcome })
  }
})
process.on("disconnect", () => process.exit())
tell({ registered: endpoint_id })
