/** Clients of the SDK in tests: quick to connect again, and closed when the test is over. */
import { onTestFinished } from "@effect/vitest"
import { BrokerClient, type ConnectOptions, type KnownBroker } from "../../src/programs/client.js"

export const quick: ConnectOptions = {
  clientKind: "test",
  reconnectBackoffInitialMs: 20,
  reconnectBackoffMaxMs: 100,
  retryForMs: 10_000
}

/** A client that is closed after the test; errors are collected. */
export const newClient = (find: KnownBroker | (() => Promise<KnownBroker>)) => {
  const client = new BrokerClient(typeof find === "function" ? find : async () => find)
  const errors: Array<Error> = []
  client.on("error", (error) => errors.push(error))
  onTestFinished(() => client.close())
  return Object.assign(client, { errors })
}

export const connected = async (find: Parameters<typeof newClient>[0], options: ConnectOptions = {}) => {
  const client = newClient(find)
  await client.connect({ ...quick, ...options })
  return client
}
