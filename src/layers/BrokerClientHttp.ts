/**
 * Finds a running broker by its discovery file, lets it prove that it knows the token of that file, and only then talks to it
 * with the operator's token.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { FetchHttpClient, HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
import { Effect, Layer, Option, Schedule } from "effect"
import { BrokerClient, BrokerRefused, NoBroker } from "../services/BrokerClient.js"
import { IpcApi } from "../services/ipc/IpcApi.js"
import { type DiscoveryRecord, parseDiscovery, parseOperator } from "./DiscoveryFile.js"
import { processExists } from "./internal/process.js"
import { readSecretFile } from "./internal/secretFile.js"

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
          const client = yield* HttpApiClient.makeWith(IpcApi, { httpClient: http, baseUrl: ipcUrl })
          const { proof } = yield* client.health.proof({ urlParams: { nonce } })
          const expected = createHmac("sha256", bearerToken)
            .update(`runtime-broker\n${new URL(ipcUrl).port}\n${nonce}`)
            .digest()
          const given = Buffer.from(proof, "hex")
          return given.length === expected.length && timingSafeEqual(given, expected)
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
        const client = yield* HttpApiClient.makeWith(IpcApi, {
          httpClient: HttpClient.mapRequest(http, HttpClientRequest.bearerToken(operator.operatorToken)),
          baseUrl: discovery.ipcUrl
        })
        return { client, pid: discovery.pid }
      })

      const refused = (error: { readonly message: string }) => new BrokerRefused({ message: error.message })

      return {
        status: Effect.flatMap(connect, ({ client }) => Effect.mapError(client.operator.status({}), refused)),
        stop: Effect.gen(function* () {
          const { client, pid } = yield* connect
          yield* Effect.mapError(client.operator.stop({}), refused)
          yield* Effect.sync(() => processExists(pid)).pipe(
            Effect.repeat({ while: (isThere) => isThere, schedule: Schedule.spaced("50 millis") }),
            Effect.timeoutFail({
              duration: "10 seconds",
              onTimeout: () => new BrokerRefused({ message: `Process ${pid} was asked to stop and has not ended.` })
            })
          )
          return { pid }
        })
      }
    })
  ).pipe(Layer.provide(FetchHttpClient.layer))
