/** What a plugin's author sees of the SDK, in types. */
import { assert, expectTypeOf, it } from "@effect/vitest"
import {
  BrokerClient,
  BrokerClientError,
  BrokerLaunchError,
  type BrokerRefusedError,
  type ConnectionState,
  type Delivery,
  type DiscoverOptions,
  discover,
  type Initialized,
  type ReceivedMessage,
  type RegisterArguments,
  type Registered,
  type SendResult,
  type UndispatchedMessage
} from "../../../src/programs/client.js"

it("discover and the client's methods have the shapes of the published client", () => {
  expectTypeOf(discover).parameters.toEqualTypeOf<[DiscoverOptions]>()
  expectTypeOf(discover).returns.resolves.toEqualTypeOf<BrokerClient>()
  expectTypeOf<{ accountId: string; runtimeToken: string }>().toExtend<DiscoverOptions>()
  expectTypeOf<{ accountId: string }>().not.toExtend<DiscoverOptions>()
  expectTypeOf<BrokerClient["connect"]>().returns.resolves.toEqualTypeOf<Initialized>()
  expectTypeOf<BrokerClient["registerEndpoint"]>().parameter(0).toEqualTypeOf<RegisterArguments>()
  expectTypeOf<BrokerClient["registerEndpoint"]>().returns.resolves.toEqualTypeOf<Registered>()
  expectTypeOf<BrokerClient["send"]>().toBeCallableWith("ep", "to", "content")
  expectTypeOf<BrokerClient["send"]>().toBeCallableWith("ep", "to", "content", "text", { in_reply_to: "id" })
  expectTypeOf<BrokerClient["send"]>().toBeCallableWith("ep", "to", "content", "text", undefined, { store: true })
  expectTypeOf<BrokerClient["send"]>().returns.resolves.toEqualTypeOf<SendResult>()
  expectTypeOf<
    Awaited<ReturnType<BrokerClient["listUndispatched"]>>["items"][number]
  >().toEqualTypeOf<UndispatchedMessage>()
  expectTypeOf<BrokerClient["close"]>().parameters.toEqualTypeOf<[endpointId?: string | undefined]>()
  expectTypeOf<BrokerClient["connectionState"]>().toEqualTypeOf<ConnectionState>()
})

it("what travels has the types of the broker's schemas", () => {
  expectTypeOf<{ kind: string }>().toExtend<RegisterArguments>()
  expectTypeOf<{ agent_id: string }>().not.toExtend<RegisterArguments>()
  expectTypeOf<{ kind: string; agent_id: number }>().not.toExtend<RegisterArguments>()
  expectTypeOf<Registered["endpoint_owner_token"]>().toEqualTypeOf<string>()
  expectTypeOf<SendResult["status"]>().toEqualTypeOf<"delivered" | "stored" | "queued">()
  expectTypeOf<ReceivedMessage>().not.toHaveProperty("push_id")
  expectTypeOf<ReceivedMessage["metadata"]>().toEqualTypeOf<{ readonly [name: string]: unknown }>()
  expectTypeOf<ReceivedMessage["redelivered"]>().toEqualTypeOf<true | undefined>()
})

it("events have their arguments, and deliveries their answers", () => {
  const client = new BrokerClient(async () => ({ ipcUrl: "http://127.0.0.1:1", bearerToken: "" }))
  client.on("message_received", (message) => expectTypeOf(message).toEqualTypeOf<ReceivedMessage>())
  client.on("presence", (presence, reason) => {
    expectTypeOf(presence).toEqualTypeOf<"online" | "reconnecting" | "offline">()
    expectTypeOf(reason).toEqualTypeOf<string | undefined>()
  })
  client.on("connectionstate", (state) => expectTypeOf(state).toEqualTypeOf<ConnectionState>())
  client.on("error", (error) => expectTypeOf(error).toEqualTypeOf<Error>())
  expectTypeOf(client.messages()).toExtend<AsyncIterable<Delivery>>()
  expectTypeOf<Delivery>().toExtend<ReceivedMessage>()
  expectTypeOf<BrokerRefusedError>().toExtend<BrokerClientError>()
  assert.instanceOf(new BrokerLaunchError({ code: "broker_not_found", message: "" }), BrokerClientError)
})
