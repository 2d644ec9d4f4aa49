// Connects, closes, and has nothing more to do: the process ends by itself, or something of the client keeps it.
const [sdk, ipcUrl, bearerToken] = process.argv.slice(2)
const { BrokerClient } = await import(sdk)

const client = BrokerClient.at({ ipcUrl, bearerToken })
client.onMessage(() => undefined)
const connected = await client.connect({ clientKind: "test" }).then(
  () => true,
  () => false
)
if (connected) {
  const { endpoint_id } = await client.registerEndpoint({ agent_id: "closing", kind: "test" })
  await client.send(endpoint_id, "local:closing", "hello")
  await client.listUndispatched()
}
console.log(client.connectionState.phase)
await client.close()
