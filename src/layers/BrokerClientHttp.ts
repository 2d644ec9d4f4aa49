/**
 * Finds a running broker by its discovery file, lets it prove that it knows the token of that file, and only then talks to it
 * with the operator's token.
 */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { Effect, Layer, Option, Schedule, Stream } from "effect"
import { BrokerClient, BrokerRefused, type ClientError, NoBroker } from "../services/BrokerClient.js"
import { IpcApi } from "../services/ipc/IpcApi.js"
import { type DiscoveryRecord, parseDiscovery, parseOperator } from "./DiscoveryFile.js"
import { readSecretFile } from "./internal/secretFile.js"
import { processExists } from "./machine/processes.js"
import { isProof } from "./machine/proof.js"

interface Found {
  readonly directory: string
  readonly discovery: DiscoveryRecord
}

/** Which broker: the one of this identity's directory, or the one running among all identities of the account. */
export type Where = { readonly directory: string } | { readonly account: string; readonly accountDirectory: string }

const describe = (where: Where) => ("directory" in where ? where.directory : where.accountDirectory)

export const layer = (where: Where): Layer.Layer<BrokerClient> =>
  Layer.effect(
    BrokerClient,
    Effect.gen(function* () {
      const http = yield* HttpClient.HttpClient

      const candidates = Effect.promise(async () => {
        if ("directory" in where) return [where.directory]
        const names = await fs.readdir(where.accountDirectory).catch(() => [] as Array<string>)
        return names.map((name) => path.join(where.accountDirectory, name))
      })

      const find = Effect.gen(function* () {
        const found: Array<Found> = []
        for (const directory of yield* candidates) {
          const text = yield* readSecretFile(path.join(directory, "discovery.json")).pipe(
            Effect.mapError(({ message }) => new BrokerRefused({ message }))
          )
          const discovery = Option.getOrUndefined(parseDiscovery(text))
          if (discovery !== undefined && (yield* isOurs(discovery))) found.push({ directory, discovery })
        }
        if (found.length > 1) {
          return yield* new BrokerRefused({
            message: `Several brokers are running: ${found.map(({ directory }) => directory).join(", ")}. Name one with --directory.`
          })
        }
        return (
          found[0] ??
          (yield* new NoBroker({
            message: `No broker is running (looked in ${describe(where)}).`
          }))
        )
      })

      /** It proves to know the token before it sees one. */
      const isOurs = ({ bearerToken, ipcUrl }: DiscoveryRecord) =>
        Effect.gen(function* () {
          const nonce = randomBytes(32).toString("hex")
          const at = { httpClient: http, baseUrl: ipcUrl }
          const prove = yield* HttpApiClient.endpoint(IpcApi, { ...at, group: "health", endpoint: "proof" })
          const { proof } = yield* prove({ urlParams: { nonce } })
          return isProof(proof, bearerToken, new URL(ipcUrl).port, nonce)
        }).pipe(
          Effect.timeout("2 seconds"),
          // Whoever listens there is not this broker.
          Effect.orElseSucceed(() => false)
        )

      const connect = Effect.gen(function* () {
        const { directory, discovery } = yield* find
        const text = yield* readSecretFile(path.join(directory, "operator.json")).pipe(
          Effect.mapError(({ message }) => new BrokerRefused({ message }))
        )
        const operator = Option.getOrUndefined(parseOperator(text))
        if (operator === undefined) {
          return yield* new BrokerRefused({
            message: `${path.join(directory, "operator.json")} holds no operator token.`
          })
        }
        const asOperator = HttpClient.mapRequest(http, HttpClientRequest.bearerToken(operator.operatorToken))
        return { at: { httpClient: asOperator, baseUrl: discovery.ipcUrl }, pid: discovery.pid }
      })

      const refused = (error: { readonly message: string }) => new BrokerRefused({ message: error.message })

      // A command asks one group: a client of all would take longer to make than the question takes.
      const operator = Effect.flatMap(connect, ({ at, pid }) =>
        Effect.map(HttpApiClient.group(IpcApi, { ...at, group: "operator" }), (client) => ({ ...client, pid }))
      )
      const store = Effect.flatMap(connect, ({ at }) => HttpApiClient.group(IpcApi, { ...at, group: "operatorStore" }))
      const dead = Effect.flatMap(connect, ({ at }) => HttpApiClient.group(IpcApi, { ...at, group: "operatorDead" }))

      const ask = <Client, A>(
        client: Effect.Effect<Client, ClientError>,
        question: (client: Client) => Effect.Effect<A, { readonly message: string }>
      ) => Effect.flatMap(client, (client) => Effect.mapError(question(client), refused))

      type Operator = Effect.Effect.Success<typeof operator>
      /** Asks the broker to end by this request, and waits until it has. */
      const endBy = (request: (client: Operator) => Effect.Effect<unknown, { readonly message: string }>) =>
        Effect.gen(function* () {
          const client = yield* operator
          yield* Effect.mapError(request(client), refused)
          const { pid } = client
          yield* Effect.sync(() => processExists(pid)).pipe(
            Effect.repeat({ while: (isThere) => isThere, schedule: Schedule.spaced("50 millis") }),
            Effect.timeoutFail({
              duration: "10 seconds",
              onTimeout: () => new BrokerRefused({ message: `Process ${pid} was asked to stop and has not ended.` })
            })
          )
          return { pid }
        })

      type Dead = Effect.Effect.Success<typeof dead>
      /** Asks about a dead letter. What cannot be an id is not put into a path, where it may mean something else. */
      const askOf = <A>(
        letter: string,
        question: (client: Dead, path: { readonly letter: string }) => Effect.Effect<A, { readonly message: string }>
      ) =>
        ask(dead, (client) =>
          /^[mr]-\w+$/.test(letter)
            ? question(client, { letter })
            : new BrokerRefused({ message: `There is no dead letter "${letter}"; ids are as list shows them.` })
        )

      /** Longer than what fits into memory: read as it comes. */
      const exported = Effect.gen(function* () {
        const { at } = yield* connect
        const response = yield* Effect.mapError(at.httpClient.get(`${at.baseUrl}/v1/operator/store/export`), refused)
        if (response.status !== 200) {
          const { message } = (yield* Effect.mapError(response.json, refused)) as { readonly message: string }
          return yield* new BrokerRefused({ message })
        }
        const brokeOff = () => new BrokerRefused({ message: "The export broke off; the broker's log may say why." })
        return Stream.mapError(response.stream, brokeOff)
      })

      return {
        status: ask(operator, (client) => client.status({})),
        stop: endBy((client) => client.stop({})),
        drain: (restart) => endBy((client) => client.drain({ payload: { restart } })),
        store: {
          inspect: ask(store, (client) => client.inspect({})),
          verify: ask(store, (client) => client.verify({})),
          exported: Stream.unwrap(exported),
          audit: ask(store, (client) => client.ledger({}))
        },
        deadLetters: {
          list: Effect.map(
            ask(dead, (client) => client.list({})),
            ({ items }) => items
          ),
          show: (id) => askOf(id, (client, path) => client.show({ path })),
          retry: (id) => askOf(id, (client, path) => client.retry({ path })),
          purge: (id) => Effect.asVoid(askOf(id, (client, path) => client.purge({ path }))),
          purgeAll: Effect.map(
            ask(dead, (client) => client.purgeAll({})),
            ({ purged }) => purged
          )
        }
      }
    })
  ).pipe(Layer.provide(NodeHttpClient.layer))
